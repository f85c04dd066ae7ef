/** How the code of a job gets to the machines: packed and uploaded, unless they all see its folder. */
import { basename } from 'node:path';
import { type PackedBundle, packFolder } from '../shared/bundle/pack.js';
import { packedReference } from '../shared/bundle/reference.js';
import type { JobFileOnDisk } from '../shared/job_file.js';
import { splitTask } from '../shared/job_spec.js';
import { JobSpecError } from '../shared/job_spec_error.js';
import type { SubmitRequest } from '../shared/wire/jobs.js';
import type { JobsClient } from './jobs_client.js';

export interface CodeOptions {
  /** The workers see the folder of the job file at the same path: nothing is packed. */
  readonly sharedFolder?: true;
}

export interface JobCode {
  /** What the job refers to. */
  readonly bundle: string;
  /** Undefined for a folder that is shared. */
  readonly packed: PackedBundle | undefined;
}

/** Throws a BundleError or a JobSpecError when the folder cannot be packed, or the task is not in what was packed. */
export async function codeOf(path: string, job: JobFileOnDisk, { sharedFolder }: CodeOptions): Promise<JobCode> {
  if (sharedFolder) return { bundle: job.bundle, packed: undefined };
  const packed = await packFolder(job.bundle);
  const { file } = splitTask(job.spec.task);
  if (!packed.files.some(({ name }) => name === file)) {
    throw new JobSpecError(basename(path), 'task', `${file} is left out of what is sent, by a .gitignore`);
  }
  return { bundle: packedReference(packed.sha256), packed };
}

/** Uploads the code if need be, then submits the job. The id of the job. */
export async function submitWithCode(
  client: JobsClient,
  { bundle, packed }: JobCode,
  request: Omit<SubmitRequest, 'bundle' | 'user'>,
): Promise<string> {
  if (packed !== undefined) await client.upload(packed, request.spec);
  return client.submit({ ...request, bundle });
}
