/** The commands that ask a coordinator one question: jobs, job, cancel, checkpoints, audit. */
import { formatBytes, formatDuration, formatLoss } from '../../shared/text/numbers.js';
import { classesOf, costText, hoursText, sharesText } from '../../shared/text/worker_time.js';
import type { Checkpoint, Job } from '../../shared/wire/jobs.js';
import type { Context } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { auditJson, checkpointJson, jobJson } from '../output/json.js';
import { print } from '../output/print.js';
import { factsText, tableOf } from '../output/table.js';

type Options = JsonOption & ServerOption;

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
  const { jobs, leftOut } = await withClient(context, options, (client) => client.listed());
  const older = leftOut === 0 ? '' : `\nand ${leftOut} older jobs`;
  print(
    context,
    options,
    jobs.map(jobJson),
    () => `${tableOf(['job', 'name', 'user', 'state', 'step', 'loss', 'workers'], jobs.map(jobRow))}${older}`,
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

function stepText(job: Job): string {
  return job.steps === 0 ? String(job.committed) : `${job.committed}/${job.steps}`;
}

function jobRow(job: Job): readonly string[] {
  const loss = job.loss === undefined ? '' : formatLoss(job.loss);
  return [job.job, job.spec.name, job.user, job.state, stepText(job), loss, job.workers.join(' ')];
}

/** "3.21 worker-hours: compute 81 %, reduce 9 %, ..." */
function spentText({ spent }: Job): string {
  if (spent.workerSeconds === 0) return '';
  return `${hoursText(spent.workerSeconds)} worker-hours: ${sharesText(classesOf(spent))}`;
}

/** So far, and at the end if it goes on as now. */
function costOf({ spent, pricePerWorkerHour, secondsLeft, workers }: Job): string {
  if (pricePerWorkerHour === 0) return '';
  const soFar = costText(spent.workerSeconds, pricePerWorkerHour);
  if (secondsLeft === undefined) return soFar;
  const atEnd = costText(spent.workerSeconds + workers.length * secondsLeft, pricePerWorkerHour);
  return `${soFar}, about ${atEnd} at the end`;
}

/** Nobody pays for it. */
function queuedText({ spent, spec }: Job): string {
  const seconds = spent.queuedSeconds / spec.workersMin;
  return seconds < 1 ? '' : `${formatDuration(seconds)} without workers`;
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
    ['queued', queuedText(job)],
    ['cost', costOf(job)],
    ['generation', String(job.generation)],
    ['weights', job.weightsDigest],
    ['output', job.output],
    ['code', job.bundle],
    ['resumed', job.resumedFrom === '' ? '' : `from job ${job.resumedFrom}`],
    ['checkpoint', job.checkpoint === undefined ? '' : `step ${job.checkpoint}`],
  ];
  return factsText(rows);
}
