/** The commands that ask a coordinator one question: submit, resume, jobs, job, cancel, checkpoints, nodes, audit. */
import { dirname, join, resolve } from 'node:path';
import Table from 'cli-table3';
import { nanoid } from 'nanoid';
import { readJobFile } from '../../shared/job_file.js';
import { formatBytes, formatLoss } from '../../shared/text/numbers.js';
import { printable } from '../../shared/text/printable.js';
import type { Checkpoint, Job, Node } from '../../shared/wire/jobs.js';
import type { Context } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { auditJson, checkpointJson, jobJson, nodeJson } from '../output/json.js';
import { newRunFolder } from '../run_folder.js';
import { withInitFrom, withSteps } from './run.js';

type Options = JsonOption & ServerOption;

export interface SubmitOptions extends JsonOption, ServerOption {
  readonly output?: string;
  readonly checkpoints?: string;
  readonly initFrom?: string;
  readonly steps?: number;
}

export async function submit(context: Context, file: string, options: SubmitOptions): Promise<ExitCode> {
  const { spec: given, bundle } = readJobFile(file);
  const spec = withInitFrom(withSteps(given, options.steps), options.initFrom);
  const output = resolve(options.output ?? join(newRunFolder(spec.name, new Date()), 'model'));
  const checkpoints = checkpointFolder(options.checkpoints ?? join(dirname(output), 'checkpoints'));
  const job = await withClient(context, options, (client) =>
    client.submit({ operationId: nanoid(), spec, bundle, output, checkpoints }),
  );
  print(context, options, [{ event: 'submitted', job, name: spec.name, output, checkpoints }], () => job);
  return exitCodes.ok;
}

/** An absolute path, or an s3 URL without a slash at its end. */
function checkpointFolder(given: string): string {
  return given.startsWith('s3://') ? given.replace(/\/+$/, '') : resolve(given);
}

export interface ResumeOptions extends JsonOption, ServerOption {
  readonly from?: number;
}

/** Prints the id of the new job. */
export async function resume(context: Context, reference: string, options: ResumeOptions): Promise<ExitCode> {
  const job = await withClient(context, options, (client) =>
    client.resume({ operationId: nanoid(), job: reference, from: options.from }),
  );
  print(context, options, [{ event: 'submitted', job, resumed_from: reference }], () => job);
  return exitCodes.ok;
}

export async function listCheckpoints(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const checkpoints = await withClient(context, options, (client) => client.checkpoints(reference));
  print(context, options, checkpoints.map(checkpointJson), () =>
    tableOf(['step', 'size', 'saved', 'path'], checkpoints.map(checkpointRow)),
  );
  return exitCodes.ok;
}

function checkpointRow({ step, bytes, timeMs, path, damage }: Checkpoint): readonly string[] {
  const shown = damage === '' ? path : `${path} (damaged: ${damage})`;
  return [String(step), formatBytes(bytes), new Date(timeMs).toISOString(), shown];
}

export async function listJobs(context: Context, options: Options): Promise<ExitCode> {
  const jobs = await withClient(context, options, (client) => client.list());
  print(context, options, jobs.map(jobJson), () =>
    tableOf(['job', 'name', 'state', 'step', 'loss', 'workers'], jobs.map(jobRow)),
  );
  return exitCodes.ok;
}

export async function showJob(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const job = await withClient(context, options, (client) => client.get(reference));
  print(context, options, [jobJson(job)], () => jobText(job));
  return exitCodes.ok;
}

export interface CancelOptions extends JsonOption, ServerOption {
  readonly checkpoint?: true;
}

export async function cancelJob(context: Context, reference: string, options: CancelOptions): Promise<ExitCode> {
  const checkpoint = options.checkpoint === true;
  const job = await withClient(context, options, (client) => client.cancel(reference, checkpoint));
  print(context, options, [jobJson(job)], () => `${job.job} is ${job.state}`);
  return exitCodes.ok;
}

export async function listNodes(context: Context, options: Options): Promise<ExitCode> {
  const nodes = await withClient(context, options, (client) => client.nodes());
  print(context, options, nodes.map(nodeJson), () =>
    tableOf(['worker', 'host', 'pid', 'state', 'job', 'step', 'engine'], nodes.map(nodeRow)),
  );
  return exitCodes.ok;
}

/** Ends with 1 when a sample was lost or repeated. */
export async function auditJob(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const report = await withClient(context, options, (client) => client.audit(reference));
  print(
    context,
    options,
    [auditJson(report)],
    () => `${report.steps} steps, samples lost ${report.samplesLost}, samples repeated ${report.samplesRepeated}`,
  );
  return report.samplesLost + report.samplesRepeated === 0 ? exitCodes.ok : exitCodes.jobFailed;
}

function print(context: Context, options: JsonOption, objects: readonly object[], text: () => string): void {
  if (options.json) for (const one of objects) context.write(`${JSON.stringify(one)}\n`);
  else context.write(`${text()}\n`);
}

function stepText(job: Job): string {
  return job.steps === 0 ? String(job.committed) : `${job.committed}/${job.steps}`;
}

function jobRow(job: Job): readonly string[] {
  const loss = job.loss === undefined ? '' : formatLoss(job.loss);
  return [job.job, job.spec.name, job.state, stepText(job), loss, job.workers.join(' ')];
}

function nodeRow(node: Node): readonly string[] {
  return [node.worker, node.host, String(node.pid), node.state, node.job, String(node.committed), node.engine];
}

function jobText(job: Job): string {
  const rows: readonly (readonly [string, string])[] = [
    ['job', job.job],
    ['name', job.spec.name],
    ['task', job.spec.task],
    ['state', job.reason === '' ? job.state : `${job.state}: ${job.reason}`],
    ['submitted', new Date(job.submittedMs).toISOString()],
    ['steps', stepText(job)],
    ['loss', job.loss === undefined ? '' : formatLoss(job.loss)],
    ['workers', job.workers.join(' ')],
    ['generation', String(job.generation)],
    ['weights', job.weightsDigest],
    ['output', job.output],
    ['resumed', job.resumedFrom === '' ? '' : `from job ${job.resumedFrom}`],
    ['checkpoint', job.checkpoint === undefined ? '' : `step ${job.checkpoint}`],
  ];
  return rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name.padEnd(11)}${printable(value)}`)
    .join('\n');
}

/** Columns without frames. */
function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
      .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'])
      .map((name) => [name, '']),
  );
  const table = new Table({
    head: [...head],
    chars: { ...none, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) table.push(row.map(printable));
  return table.toString();
}
