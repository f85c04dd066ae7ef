/** The commands and their options. */
import { Argument, Command, CommanderError, Option } from 'commander';
import { BundleError } from '../shared/bundle/bundle_error.js';
import { CertificateError } from '../shared/certificates/openssl.js';
import { DRAIN_SECONDS } from '../shared/drain.js';
import { JobSpecError } from '../shared/job_spec_error.js';
import { USER_ROLES } from '../shared/role.js';
import { printable } from '../shared/text/printable.js';
import { addCerts } from './certs/commands.js';
import { complete, completion } from './commands/completion.js';
import { doctor } from './commands/doctor.js';
import { auditJob, cancelJob, listCheckpoints, listJobs, showJob } from './commands/jobs.js';
import { cordon, drain, listNodes, uncordon } from './commands/nodes.js';
import { run } from './commands/run.js';
import { events, logs, watch } from './commands/streams.js';
import { clone, resume, submit } from './commands/submit.js';
import { token } from './commands/token.js';
import { top } from './commands/top.js';
import { up } from './commands/up.js';
import { showUsage } from './commands/usage.js';
import { verify } from './commands/verify.js';
import { SHELLS } from './completion/scripts.js';
import type { Context } from './context.js';
import { examples } from './examples.js';
import { CliError, type ExitCode, exitCodes } from './exit_codes.js';
import {
  MAX_COORDINATORS,
  MAX_WORKERS,
  wholeNumberOption,
  withChanges,
  withJson,
  withServer,
  withTimeout,
} from './options.js';

const MAX_STEPS = 1_000_000_000;
const MAX_DRAIN_SECONDS = 86_400;
const MAX_LOG_LINES = 1_000_000;
const MAX_ATTEMPTS = 1_000_000;
const MAX_INTERVAL_SECONDS = 3600;

const sharedFolderHelp = 'send no code: every worker sees the folder of the job file at the same path';

const watchHelp = 'follow the job to its end; exits as the job does';

const exitCodeHelp = `
Exit codes: 0 ok, 1 job failed, 2 usage or bad job file, 3 not found, 4 unreachable, 5 not allowed, 124 timed out, 130 interrupted.`;

/** Runs one command line, without the names of the interpreter and the script. Errors go to `fail` as one line. */
export async function runProgram(
  context: Context,
  args: readonly string[],
  fail: (line: string) => void,
): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  const program = commands(context, fail, async (command) => {
    code = await command;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    if (error instanceof JobSpecError || error instanceof BundleError || error instanceof CertificateError) {
      fail(printable(error.message));
      return exitCodes.usage;
    }
    if (isFileError(error)) {
      fail(printable(error.message));
      return exitCodes.usage;
    }
    if (!(error instanceof CliError)) throw error;
    fail(printable(error.message));
    return error.exitCode;
  }
}

/** A file or folder that somebody has named, or that is made where he is, and that the system refuses. The message names it. */
function isFileError(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error && 'path' in error;
}

function commands(
  context: Context,
  fail: (line: string) => void,
  finish: (command: ExitCode | Promise<ExitCode>) => Promise<void>,
): Command {
  const program = new Command('lockstep')
    .description(
      'Distributed PyTorch training: the same weights bit for bit, whatever dies and however many workers there are.',
    )
    .addHelpText('after', exitCodeHelp)
    .showHelpAfterError(false);
  // Set before the commands are added, which inherit it.
  program
    .exitOverride()
    .configureOutput({ outputError: (text) => fail(printable(text.trim().replace(/^error: /, ''))) });

  clusterOptions(program.command('up').description('run a whole cluster on this machine until Ctrl-C'), 2)
    .option('--preflight', 'every worker measures itself before it gets jobs')
    .action((options) => finish(up(context, options)));
  withTimeout(
    withChanges(
      clusterOptions(
        program.command('run <job.yaml>').description('run one job in a cluster of its own, on this machine'),
        2,
      ),
    ),
  )
    .option('--steps <n>', "instead of the job file's steps or epochs", wholeNumberOption(1, MAX_STEPS))
    .option('--init-from <path>', 'weights to begin with: a checkpoint or a .safetensors file')
    .option('--shared-folder', sharedFolderHelp)
    .action((file, options) => finish(run(context, file, options)));

  newJob(asking(program.command('submit <job.yaml>').description('submit a job and print its id')))
    .option('--steps <n>', "instead of the job file's steps or epochs", wholeNumberOption(1, MAX_STEPS))
    .option('--init-from <path>', 'weights to begin with: a checkpoint or a .safetensors file')
    .option('--shared-folder', sharedFolderHelp)
    .option('--dry-run', 'check everything, show what would be done, and submit nothing')
    .action((file, options) => finish(submit(context, file, options)));
  newJob(
    asking(program.command('clone <job>').description('submit the spec and the code of a job again, as a new job')),
  ).action((job, options) => finish(clone(context, job, options)));
  asking(program.command('resume <job>').description('go on, as a new job, where one that has ended was saved'))
    .option('--from <step>', 'the checkpoint of this step (default: the newest)', wholeNumberOption(0, MAX_STEPS))
    .option('--watch', watchHelp)
    .action((job, options) => finish(resume(context, job, options)));
  asking(program.command('jobs').description('list the jobs')).action((options) => finish(listJobs(context, options)));
  asking(program.command('job <job>').description('show one job, by id or name')).action((job, options) =>
    finish(showJob(context, job, options)),
  );
  withTimeout(asking(program.command('watch <job>').description('follow a job to its end; exits as the job does')))
    .option('--from <sequence>', 'first event to show', wholeNumberOption(1, Number.MAX_SAFE_INTEGER), 1)
    .action((job, options) => finish(watch(context, job, options)));
  asking(program.command('logs <job>').description("show what the task's code printed"))
    .option('-f, --follow', 'go on until the job has ended')
    .option('--worker <name>', 'only what this worker printed')
    .option(
      '--attempt <n>',
      'only what the n-th engine that a worker had for the job printed',
      wholeNumberOption(1, MAX_ATTEMPTS),
    )
    .option('--tail <n>', 'begin with the newest so many lines', wholeNumberOption(0, MAX_LOG_LINES))
    .action((job, options) => finish(logs(context, job, options)));
  asking(program.command('events <job>').description('show what happened to a job'))
    .option('--follow', 'go on until the job has ended')
    .option('--from <sequence>', 'first event to show', wholeNumberOption(1, Number.MAX_SAFE_INTEGER), 1)
    .action((job, options) => finish(events(context, job, options)));
  asking(program.command('cancel <job>').description('end a job'))
    .option('--checkpoint', 'save the state first; if that fails the job goes on')
    .action((job, options) => finish(cancelJob(context, job, options)));
  asking(program.command('checkpoints <job>').description('list the checkpoints of a job')).action((job, options) =>
    finish(listCheckpoints(context, job, options)),
  );
  withJson(
    program.command('verify <path>').description('check that a checkpoint is whole, in a folder or at an s3 URL'),
  ).action((path, options) => finish(verify(context, path, options)));
  asking(program.command('nodes').description('list the workers')).action((options) =>
    finish(listNodes(context, options)),
  );
  asking(program.command('cordon <worker>').description('give a worker no new work; what it does it goes on doing'))
    .option('--reason <text>', 'for people')
    .action((worker, options) => finish(cordon(context, worker, options)));
  asking(program.command('uncordon <worker>').description('give a worker work again; ends a quarantine, too')).action(
    (worker, options) => finish(uncordon(context, worker, options)),
  );
  asking(
    program.command('drain <worker>').description('take a worker away from its job in good order, and give it none'),
  )
    .option('--reason <text>', 'for people')
    .option(
      '--deadline <seconds>',
      'past it the worker is taken away whatever is lost',
      wholeNumberOption(0, MAX_DRAIN_SECONDS),
      DRAIN_SECONDS,
    )
    .action((worker, options) => finish(drain(context, worker, options)));
  asking(program.command('audit <job>').description('compare the samples that were consumed with the plan')).action(
    (job, options) => finish(auditJob(context, job, options)),
  );
  asking(
    program.command('usage').description('show where the worker-hours of the cluster went, and who had them'),
  ).action((options) => finish(showUsage(context, options)));
  asking(program.command('top').description('show jobs and workers as they are now, until Ctrl-C'))
    .option('--once', 'show them once')
    .option('--interval <seconds>', 'between two looks', wholeNumberOption(1, MAX_INTERVAL_SECONDS), 1)
    .action((options) => finish(top(context, options)));
  asking(
    program
      .command('doctor')
      .description('check this machine and what it has to reach; exits with 1 if something fails'),
  )
    .addOption(
      new Option('--for <role>', 'what this machine is to be').choices(['worker', 'submitter']).default('worker'),
    )
    .option('--config <file>', "a worker's configuration: its etcd, its interpreter and its port are checked")
    .option('--etcd <url>', 'an etcd to reach, such as http://10.0.0.1:2379')
    .action((options) => finish(doctor(context, options)));
  addCerts(program, context, finish);
  withJson(program.command('token <name>').description('make a token for the dashboard; it is shown only now'))
    .addOption(new Option('--role <role>', 'what its holder may do').choices(USER_ROLES).default('viewer'))
    .action((name, options) => finish(Promise.resolve().then(() => token(context, name, options))));
  program
    .command('completion')
    .description('print what a shell needs to complete command lines, job names and worker names')
    .addArgument(new Argument('<shell>', 'of the script').choices(SHELLS))
    .action((shell) => finish(Promise.resolve(completion(context, shell))));
  program.command('__complete <line>', { hidden: true }).action((line) => finish(complete(context, program, line)));
  for (const command of program.commands) {
    const example = examples[command.name()];
    if (example !== undefined) command.addHelpText('after', `\nExample:\n  ${example}`);
  }
  return program;
}

/** What is common to the commands that make a job of something. */
function newJob(command: Command): Command {
  return withChanges(command)
    .option('--watch', watchHelp)
    .option('--output <folder>', 'where a worker writes the model (default: runs/<name>-<time>/model)')
    .option('--checkpoints <folder>', 'where checkpoints go: a folder that all workers see, or s3://bucket/prefix');
}

function asking(command: Command): Command {
  return withServer(withJson(command));
}

function clusterOptions(command: Command, workers: number): Command {
  return withJson(command)
    .option('--workers <n>', 'number of workers', wholeNumberOption(1, MAX_WORKERS), workers)
    .option('--coordinators <n>', 'number of coordinators', wholeNumberOption(1, MAX_COORDINATORS), 1)
    .option(
      '--separate-hosts',
      'exchange gradients over gRPC, as workers on different machines do, not through shared memory',
    )
    .option('--tls', 'with certificates of an authority that is made for it, in its folder')
    .option('--dir <folder>', 'folder for data, logs and the model (default: runs/<name>-<time>)');
}
