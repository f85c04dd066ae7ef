/** The commands that ask a coordinator one question: submit, resume, jobs, job, cancel, checkpoints, audit. */
import { dirname, join, resolve } from 'node:path';
import { nanoid } from 'nanoid';
import { readJobFile } from '../../shared/job_file.js';
import type { Checkpoint, Job } from '../../shared/wire/jobs.js';
import type { Context } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { auditJson, checkpointJson, jobJson } from '../output/json.js';
import { formatBytes, formatLoss } from '../output/numbers.js';
import { printable } from '../output/printable.js';
import { printAnswer, tableOf } from '../output/table.js';
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
  printAnswer(context, options, [{ event: 'submitted', job, name: spec.name, output, checkpoints }], () => job);
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
  printAnswer(context, options, [{ event: 'submitted', job, resumed_from: reference }], () => job);
  return exitCodes.ok;
}

export async function listCheckpoints(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const checkpoints = await withClient(context, options, (client) => client.checkpoints(reference));
  printAnswer(context, options, checkpoints.map(checkpointJson), () =>
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
  printAnswer(context, options, jobs.map(jobJson), () =>
    tableOf(['job', 'name', 'user', 'state', 'step', 'loss', 'workers'], jobs.map(jobRow)),
  );
  return exitCodes.ok;
}

export async function showJob(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const job = await withClient(context, options, (client) => client.get(reference));
  printAnswer(context, options, [jobJson(job)], () => jobText(job));
  return exitCodes.ok;
}

export interface CancelOptions extends JsonOption, ServerOption {
  readonly checkpoint?: true;
}

export async function cancelJob(context: Context, reference: string, options: CancelOptions): Promise<ExitCode> {
  const checkpoint = options.checkpoint === true;
  const job = await withClient(context, options, (client) => client.cancel(reference, checkpoint));
  printAnswer(context, options, [jobJson(job)], () => `${job.job} is ${job.state}`);
  return exitCodes.ok;
}

/** Ends with 1 when a sample was lost or repeated. */
export async function auditJob(context: Context, reference: string, options: Options): Promise<ExitCode> {
  const report = await withClient(context, options, (client) => client.audit(reference));
  printAnswer(
    context,
    options,
    [auditJson(report)],
    () => `${report.steps} steps, samples lost ${report.samplesLost}, samples repeated ${report.samplesRepeated}`,
  );
  return report.samplesLost + report.samplesRepeated === 0 ? exitCodes.ok : exitCodes.jobFailed;
}

function stepText(job: Job): string {
  return job.steps === 0 ? String(job.committed) : `${job.committed}/${job.steps}`;
}

function jobRow(job: Job): readonly string[] {
  const loss = job.loss === undefined ? '' : formatLoss(job.loss);
  return [job.job, job.spec.name, job.user, job.state, stepText(job), loss, job.workers.join(' ')];
}

const SECONDS_PER_HOUR = 3600;

/** "3.21 worker-hours: compute 81 %, exchange 9 %, ..." */
function spentText({ spent }: Job): string {
  const { workerSeconds } = spent;
  if (workerSeconds === 0) return '';
  const parts: readonly (readonly [string, number])[] = [
    ['compute', spent.computeSeconds],
    ['exchange', spent.exchangeSeconds],
    ['apply', spent.applySeconds],
    ['loading', spent.loadingSeconds],
    ['recovery', spent.recoverySeconds],
  ];
  const named = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  const shares = [...parts, ['other', Math.max(0, workerSeconds - named)] as const].map(
    ([name, seconds]) => `${name} ${Math.round((100 * seconds) / workerSeconds)} %`,
  );
  return `${(workerSeconds / SECONDS_PER_HOUR).toFixed(2)} worker-hours: ${shares.join(', ')}`;
}

/** So far, and at the end if it goes on as now. */
function costText({ spent, pricePerWorkerHour, secondsLeft, workers }: Job): string {
  if (pricePerWorkerHour === 0) return '';
  const cost = (workerSeconds: number): string => ((workerSeconds / SECONDS_PER_HOUR) * pricePerWorkerHour).toFixed(2);
  const soFar = cost(spent.workerSeconds);
  if (secondsLeft === undefined) return soFar;
  return `${soFar}, about ${cost(spent.workerSeconds + workers.length * secondsLeft)} at the end`;
}

function jobText(job: Job): string {
  const rows: readonly (readonly [string, string])[] = [
    ['job', job.job],
    ['name', job.spec.name],
    ['task', job.spec.task],
    ['user', job.user],
    ['priority', job.spec.priority === 0 ? '' : String(job.spec.priority)],
    ['state', job.reason === '' ? job.state : `${job.state}: ${job.reason}`],
    ['submitted', new Date(job.submittedMs).toISOString()],
    ['steps', stepText(job)],
    ['loss', job.loss === undefined ? '' : formatLoss(job.loss)],
    ['workers', job.workers.join(' ')],
    ['spent', spentText(job)],
    ['cost', costText(job)],
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
