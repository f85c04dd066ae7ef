/** Job files on disk: the YAML text, and the folder of code that it belongs to. */
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, resolve, sep } from 'node:path';
import type { JobChange } from './job_changes.js';
import { parseJobSpec, splitTask } from './job_spec.js';
import { JobSpecError } from './job_spec_error.js';
import type { JobSpec } from './wire/jobs.js';

const MAX_FILE_BYTES = 65_536;

/**
 * The folder that travels with a job: the real path of the job file's folder. Throws a JobSpecError when the task's file is not a
 * regular file that really lies in it.
 */
export function resolveBundle(yamlPath: string, task: string): string {
  const bundle = realpathSync(dirname(resolve(yamlPath)));
  const { file } = splitTask(task);
  const refuse = (problem: string): JobSpecError => new JobSpecError(basename(yamlPath), 'task', problem);
  let real: string;
  try {
    real = realpathSync(resolve(bundle, file));
  } catch {
    throw refuse(`there is no file ${file} in ${bundle}`);
  }
  const inside = bundle === sep ? bundle : bundle + sep;
  if (!real.startsWith(inside)) throw refuse(`${file} is a link that leads out of the folder of the job file`);
  if (!statSync(real).isFile()) throw refuse(`${file} is not a regular file`);
  return bundle;
}

export interface JobFileOnDisk {
  readonly spec: JobSpec;
  /** Absolute real path of the folder with the task's code. */
  readonly bundle: string;
}

/** Reads and checks a job file, with the changes that were made to it on the command line, and the task file that it names. */
export function readJobFile(path: string, changes: readonly JobChange[] = []): JobFileOnDisk {
  const file = basename(path);
  const { initFrom, ...spec } = parseJobSpec(readSmallFile(path), file, changes);
  const bundle = resolveBundle(path, spec.task);
  return { spec: { ...spec, initFrom: initFrom === undefined ? undefined : resolve(bundle, initFrom) }, bundle };
}

function readSmallFile(path: string): string {
  const file = basename(path);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new JobSpecError(path, '', 'there is no such file');
  if (stats.isDirectory()) throw new JobSpecError(path, '', 'is a folder; name the job file (YAML) in it');
  if (/\.py$/i.test(path)) throw new JobSpecError(file, '', 'is Python; name a job file (YAML), whose `task` names it');
  if (!stats.isFile()) throw new JobSpecError(path, '', 'is not a regular file');
  if (stats.size > MAX_FILE_BYTES) throw new JobSpecError(file, '', `is larger than ${MAX_FILE_BYTES / 1024} KiB`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch {
    throw new JobSpecError(file, '', 'cannot be read as UTF-8 text');
  }
}
