/** The commands that make a job: submit, clone, resume. */
import { dirname, join, resolve } from 'node:path';
import { nanoid } from 'nanoid';
import { readJobFile } from '../../shared/job_file.js';
import { changedJobSpec } from '../../shared/job_spec.js';
import type { JobSpec } from '../../shared/wire/jobs.js';
import { type Context, outputFor } from '../context.js';
import { type ExitCode, exitCodeOfJob, exitCodes } from '../exit_codes.js';
import { followJob } from '../follow.js';
import { type CodeOptions, codeOf, submitWithCode } from '../job_code.js';
import { planJson, planText } from '../job_plan.js';
import type { JobsClient } from '../jobs_client.js';
import { type ChangeOptions, changesIn, type JsonOption, type ServerOption, withClient } from '../options.js';
import { print } from '../output/print.js';
import { newRunFolder } from '../run_folder.js';
import { withInitFrom, withSteps } from './run.js';

/** Where the files of a new job go. */
interface PlaceOptions {
  readonly output?: string;
  readonly checkpoints?: string;
}

interface NewJobOptions extends JsonOption, ServerOption, PlaceOptions, ChangeOptions {
  readonly watch?: true;
}

export interface SubmitOptions extends NewJobOptions, CodeOptions {
  readonly initFrom?: string;
  readonly steps?: number;
  readonly dryRun?: true;
}

export async function submit(context: Context, file: string, options: SubmitOptions): Promise<ExitCode> {
  const given = readJobFile(file, changesIn(options));
  const spec = withInitFrom(withSteps(given.spec, options.steps), options.initFrom);
  const code = await codeOf(file, given, options);
  if (options.dryRun) return showPlan(context, options, { file, spec, code });
  const places = placesOf(spec, options);
  return withClient(context, options, async (client) => {
    const job = await submitWithCode(client, code, { operationId: nanoid(), spec, ...places });
    return submitted(context, client, { job, name: spec.name, ...places }, options);
  });
}

export type CloneOptions = NewJobOptions;

/** The same spec, but for what is changed, and the same code under a new id. */
export async function clone(context: Context, reference: string, options: CloneOptions): Promise<ExitCode> {
  const changes = changesIn(options);
  return withClient(context, options, async (client) => {
    const original = await client.get(reference);
    const changed = changedJobSpec(original.spec, changes);
    const spec = withInitFrom(changed, changed.initFrom);
    const places = placesOf(spec, options);
    const { bundle } = original;
    const job = await client.submit({ operationId: nanoid(), spec, bundle, ...places });
    return submitted(context, client, { job, name: spec.name, ...places, cloned_from: original.job }, options);
  });
}

export interface ResumeOptions extends JsonOption, ServerOption {
  readonly from?: number;
  readonly watch?: true;
}

export async function resume(context: Context, reference: string, options: ResumeOptions): Promise<ExitCode> {
  return withClient(context, options, async (client) => {
    const job = await client.resume({ operationId: nanoid(), job: reference, from: options.from });
    return submitted(context, client, { job, resumed_from: reference }, options);
  });
}

interface Places {
  readonly output: string;
  readonly checkpoints: string;
}

function placesOf(spec: JobSpec, options: PlaceOptions): Places {
  return placesBelow(options, () => newRunFolder(spec.name, new Date()));
}

function placesBelow(options: PlaceOptions, runFolder: () => string): Places {
  const output = resolve(options.output ?? join(runFolder(), 'model'));
  return { output, checkpoints: checkpointFolder(options.checkpoints ?? join(dirname(output), 'checkpoints')) };
}

/** An absolute path, or an s3 URL without a slash at its end. */
function checkpointFolder(given: string): string {
  return given.startsWith('s3://') ? given.replace(/\/+$/, '') : resolve(given);
}

interface Submitted extends Partial<Places> {
  readonly job: string;
  readonly name?: string;
  readonly cloned_from?: string;
  readonly resumed_from?: string;
}

/** Says the job's id, and with --watch goes on to its end. */
async function submitted(
  context: Context,
  client: JobsClient,
  job: Submitted,
  options: JsonOption & { readonly watch?: true },
): Promise<ExitCode> {
  print(context, options, [{ event: 'submitted', ...job }], () => job.job);
  if (!options.watch) return exitCodes.ok;
  const output = outputFor(context, options.json === true);
  try {
    const end = await followJob({ client, job: job.job, fromSequence: 1, output });
    return exitCodeOfJob(end.state);
  } finally {
    output.close();
  }
}

type Planned = Pick<Parameters<typeof planJson>[0], 'file' | 'spec' | 'code'>;

async function showPlan(context: Context, options: SubmitOptions, planned: Planned): Promise<ExitCode> {
  const named = (options.server ?? context.defaultServer ?? '') !== '';
  const nodes = named ? await withClient(context, options, (client) => client.nodes()) : undefined;
  // No folder is made for what will not be.
  const places = placesBelow(options, () => resolve('runs', `${planned.spec.name}-<time>`));
  const plan = { ...planned, ...places, nodes };
  print(context, options, [planJson(plan)], () => planText(plan));
  return exitCodes.ok;
}
