/** Runs the openssl command in a private folder that is removed afterwards. The only place that knows its configuration. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const RUN_MS = 20_000;
const run = promisify(execFile);

/** Something about certificates cannot be done. The message is one line. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError';
}

/** To be named with -config. */
export const CONFIGURATION_FILE = 'openssl.cnf';

const CONFIGURATION = `
[ca]
default_ca = authority
[authority]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = policy
unique_subject = no
email_in_dn = no
[policy]
commonName = supplied
[req]
distinguished_name = subject
prompt = no
[subject]
`;

/** One use of openssl: files by their names in its folder. */
export class OpenSsl {
  private constructor(private readonly folder: string) {}

  /** `subject`: common name of the requests that are made in it. `extensions`: the lines that certificates get. */
  static async with<T>(
    subject: string,
    extensions: readonly string[],
    use: (openssl: OpenSsl) => Promise<T>,
  ): Promise<T> {
    const folder = await privateFolder();
    try {
      const openssl = new OpenSsl(folder);
      await openssl.write(
        CONFIGURATION_FILE,
        `${CONFIGURATION}CN = ${subject}\n[extensions]\n${extensions.join('\n')}\n`,
      );
      await openssl.write('index.txt', '');
      return await use(openssl);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async write(name: string, text: string): Promise<void> {
    await writeFile(join(this.folder, name), text, { mode: 0o600 });
  }

  read(name: string): Promise<string> {
    return readFile(join(this.folder, name), 'utf8');
  }

  /** Returns what it prints. */
  async run(...args: readonly string[]): Promise<string> {
    try {
      return (await run('openssl', args, { cwd: this.folder, timeout: RUN_MS })).stdout;
    } catch (error) {
      throw new CertificateError(`openssl ${args[0]} failed: ${reasonOf(error)}`);
    }
  }
}

/** In memory where that can be: keys pass through it. */
async function privateFolder(): Promise<string> {
  try {
    return await mkdtemp('/dev/shm/lockstep-openssl-');
  } catch {
    return mkdtemp(join(tmpdir(), 'lockstep-openssl-'));
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && error.code === 'ENOENT') return 'it is not installed; run: apt-get install openssl';
  if ('stderr' in error && typeof error.stderr === 'string' && error.stderr !== '') {
    return error.stderr.trim().split('\n').at(-1) ?? error.message;
  }
  return error.message;
}
