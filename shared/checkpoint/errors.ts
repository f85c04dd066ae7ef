/** What can be wrong with a checkpoint, and with the place where it lies. Messages are one line that names the file. */

const MAX_LINE_CHARACTERS = 600;

/** The files are not, or not all, what was saved. Another checkpoint may be whole. */
export class DamagedCheckpoint extends Error {
  constructor(
    readonly file: string,
    readonly problem: string,
  ) {
    super(oneLine(`${file} ${problem}`));
    this.name = 'DamagedCheckpoint';
  }
}

/** There is no checkpoint under this name: it has no manifest. */
export class MissingCheckpoint extends DamagedCheckpoint {
  constructor(file: string) {
    super(file, 'is missing: there is no checkpoint');
    this.name = 'MissingCheckpoint';
  }
}

/** The storage refused an operation. What was being written is abandoned; what was there before is as it was. */
export class StorageFailure extends Error {
  constructor(message: string, cause?: unknown) {
    super(oneLine(message), cause === undefined ? {} : { cause });
    this.name = 'StorageFailure';
  }
}

/** What to do, by the system's error code. */
const ADVICE: ReadonlyMap<string, string> = new Map([
  ['ENOSPC', 'no space is left on the device; free some, or keep fewer checkpoints'],
  ['EDQUOT', 'the disk quota is used up; free some space, or keep fewer checkpoints'],
  ['EIO', 'the device reports an I/O error; look at the kernel log and check the disk'],
  ['EROFS', 'the file system is read-only; mount it writable, or choose another folder'],
  ['EACCES', 'permission denied; the user that runs the worker must be able to write there'],
  ['EPERM', 'not permitted; the user that runs the worker must be able to write there'],
  ['ENOENT', 'it is not there; it may have been removed'],
  ['ENOTDIR', 'a part of the path is not a folder'],
  ['EMFILE', 'too many open files; raise the limit on open files'],
  ['ENFILE', 'too many open files on this machine'],
]);

/** `doing`: "write /ckpt/x". */
export function fileFailure(doing: string, error: unknown): StorageFailure {
  const code = errorCode(error);
  const text = error instanceof Error ? error.message : String(error);
  return new StorageFailure(
    `cannot ${doing}: ${code === undefined ? text : `${ADVICE.get(code) ?? text} (${code})`}`,
    error,
  );
}

/** ENOENT and the like. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be in a line of a log.
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
  return line.length > MAX_LINE_CHARACTERS ? `${line.slice(0, MAX_LINE_CHARACTERS)}...` : line;
}
