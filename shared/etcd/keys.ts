/**
 * Where everything lies in etcd. All keys are under the client's prefix.
 *
 *     leader                          who leads; the create revision is the term; under the leader's lease
 *     coordinators/<name>             a coordinator that runs, under its lease
 *     workers/<name>                  a worker that runs, under its lease
 *     jobs/<job>                      spec and state of a job
 *     generations/<job>               the newest generation of a job
 *     checkpoints/<job>               the published checkpoints of a job
 *     nodes/<worker>                  what people have decided about a worker
 *     accounts/cluster                what users have had lately, and what was spent on jobs that wait
 *     bundles/<sha256>                an archive of code, and whether it is whole (docs/bundles.md)
 *     bundle_pieces/<sha256>/<number> a part of one; 4 digits
 *     events/<job>/<sequence>         one event of a job; 16 digits, so that the order of keys is the order of events
 *     join_tokens/<sha256>            a join token that nobody has used yet, under a lease that ends with it
 *     operations/<term>               last operation that the leader of that term stored (see Store); 16 digits
 */

/** The campaign key. Its create revision is the term. */
export const leaderKey = 'leader';

export const coordinatorsFolder = 'coordinators/';
export const workersFolder = 'workers/';
export const jobsFolder = 'jobs/';
export const generationsFolder = 'generations/';
export const checkpointsFolder = 'checkpoints/';
export const nodesFolder = 'nodes/';
export const accountsFolder = 'accounts/';
export const bundlesFolder = 'bundles/';
export const bundlePiecesFolder = 'bundle_pieces/';
export const eventsFolder = 'events/';
export const joinTokensFolder = 'join_tokens/';
export const operationsFolder = 'operations/';

/** Folders whose keys are names of members. */
export type MembersFolder = typeof coordinatorsFolder | typeof workersFolder;

const sequenceDigits = 16;
const pieceDigits = 4;

function checkedName(name: string): string {
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} cannot be part of an etcd key: use 1 to 128 of A-Z a-z 0-9 . _ -`);
  }
  return name;
}

function padded(sequence: number): string {
  if (!Number.isSafeInteger(sequence) || sequence < 0) throw new RangeError(`${sequence} is not a sequence number`);
  return String(sequence).padStart(sequenceDigits, '0');
}

export function coordinatorKey(name: string): string {
  return coordinatorsFolder + checkedName(name);
}

export function workerKey(name: string): string {
  return workersFolder + checkedName(name);
}

export function jobKey(job: string): string {
  return jobsFolder + checkedName(job);
}

export function generationKey(job: string): string {
  return generationsFolder + checkedName(job);
}

export function checkpointsKey(job: string): string {
  return checkpointsFolder + checkedName(job);
}

export function nodeKey(worker: string): string {
  return nodesFolder + checkedName(worker);
}

/** `sha256`: of the token's secret part. */
export function joinTokenKey(sha256: string): string {
  return joinTokensFolder + checkedName(sha256);
}

export const accountsKey = `${accountsFolder}cluster`;

export function bundleKey(sha256: string): string {
  return bundlesFolder + checkedName(sha256);
}

export function bundlePieceKey(sha256: string, piece: number): string {
  return `${bundlePiecesFolder}${checkedName(sha256)}/${String(piece).padStart(pieceDigits, '0')}`;
}

/** Folder of one job's events. */
export function eventFolder(job: string): string {
  return `${eventsFolder}${checkedName(job)}/`;
}

export function eventKey(job: string, sequence: number): string {
  return eventFolder(job) + padded(sequence);
}

export function operationKey(term: number): string {
  return operationsFolder + padded(term);
}
