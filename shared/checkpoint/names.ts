/** The names that a checkpoint's folder and files have. What has another name is never ours, and is never deleted. */

export const MANIFEST_FILE = 'manifest.json';

const STEP_DIGITS = 9;
const SHARD_DIGITS = 5;
/** More of them would need more digits. */
export const MAX_SHARDS = 10 ** SHARD_DIGITS - 1;

const CHECKPOINT = /^step-(\d{9}|[1-9]\d{9,14})$/;
const SHARD = /^shard-(\d{5})-of-(\d{5})(?:\.([A-Za-z0-9-]{1,64})-[0-9a-f]{12})?\.safetensors$/;
const SAVE = /^[A-Za-z0-9-]{1,64}$/;

/** Folder of the state after `step` committed steps: step-000000123. */
export function checkpointName(step: number): string {
  return `step-${paddedStep(step)}`;
}

/** Undefined when the name is not a checkpoint's. */
export function stepOfCheckpoint(name: string): number | undefined {
  const digits = CHECKPOINT.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export function paddedStep(step: number): string {
  return String(step).padStart(STEP_DIGITS, '0');
}

/** Who wrote a file: `writer` are 12 random hexadecimal digits. */
export interface FileTag {
  readonly save: string;
  readonly writer: string;
}

/** Tagged where the files of several saves lie in one folder, as they do in an S3 bucket, which cannot rename. */
export function shardFile(shard: number, shards: number, tag?: FileTag): string {
  const [number, count] = [shard, shards].map((value) => String(value).padStart(SHARD_DIGITS, '0'));
  return `shard-${number}-of-${count}${tag === undefined ? '' : `.${tag.save}-${tag.writer}`}.safetensors`;
}

/** The save whose tag a shard's file has. */
export function taggedSave(file: string): string | undefined {
  return SHARD.exec(file)?.[3];
}

/** Undefined when the name is not a shard's. */
export function shardOfFile(file: string): { readonly shard: number; readonly shards: number } | undefined {
  const match = SHARD.exec(file);
  return match === null ? undefined : { shard: Number(match[1]), shards: Number(match[2]) };
}

export function isFileOfCheckpoint(file: string): boolean {
  return file === MANIFEST_FILE || SHARD.test(file);
}

/** A save's id becomes part of a file name, so it must not be able to lead elsewhere. */
export function isSaveId(save: string): boolean {
  return SAVE.test(save);
}
