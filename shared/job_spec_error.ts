/** A job file was refused. The message is one line that names the file, the line and the key. */
export class JobSpecError extends Error {
  constructor(
    readonly file: string,
    readonly field: string,
    readonly problem: string,
    readonly line?: number,
  ) {
    const where = line === undefined ? file : `${file}:${line}`;
    super(field === '' ? `${where}: ${problem}` : `${where}: ${field}: ${problem}`);
    this.name = 'JobSpecError';
  }
}
