/** The file of tokens, read again when it has changed: whoever is taken out of it is out at once. */
import { timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import {
  MAX_TOKENS_FILE_BYTES,
  parseTokensFile,
  sha256OfToken,
  type TokenHolder,
  TokensFileError,
} from '../../shared/bearer_token.js';
import type { Logger } from '../../shared/logger.js';

const LOOK_MS = 2_000;
/** Whoever may write the file may let anybody in. */
const WRITABLE_BY_ALL = 0o002;

export class TokensFile {
  readonly #path: string;
  readonly #log: Logger;
  #holders: ReadonlyMap<string, TokenHolder>;
  #version: string;
  #problem = '';
  #looking = false;
  readonly #timer: NodeJS.Timeout;

  /** Throws a TokensFileError that names the file. */
  static async open(path: string, log: Logger): Promise<TokensFile> {
    const { holders, version } = await read(path, '');
    return new TokensFile(path, log, holders ?? new Map(), version);
  }

  private constructor(path: string, log: Logger, holders: ReadonlyMap<string, TokenHolder>, version: string) {
    this.#path = path;
    this.#log = log;
    this.#holders = holders;
    this.#version = version;
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** All are compared, each in constant time: how long it takes says nothing about any of them. */
  holderOf(token: string): TokenHolder | undefined {
    const sha256 = sha256OfToken(token);
    if (sha256 === undefined) return undefined;
    const given = Buffer.from(sha256);
    let found: TokenHolder | undefined;
    for (const holder of this.#holders.values()) if (timingSafeEqual(Buffer.from(holder.sha256), given)) found = holder;
    return found;
  }

  /** Whose token has this hash, which is no secret. */
  holderOfSha256(sha256: string): TokenHolder | undefined {
    return this.#holders.get(sha256);
  }

  /** What cannot be read changes nothing, and is said once. */
  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      const { holders, version } = await read(this.#path, this.#version);
      this.#version = version;
      this.#problem = '';
      if (holders === undefined) return;
      this.#holders = holders;
      this.#log.info('tokens read', { tokens: holders.size });
    } catch (error) {
      const problem = String(error);
      if (problem !== this.#problem) this.#log.error('the tokens that were read before still hold', { error: problem });
      this.#problem = problem;
    } finally {
      this.#looking = false;
    }
  }
}

interface ReadTokens {
  /** By their hash; undefined if the file is as it was. */
  readonly holders: ReadonlyMap<string, TokenHolder> | undefined;
  readonly version: string;
}

async function read(path: string, known: string): Promise<ReadTokens> {
  let file: FileHandle | undefined;
  try {
    // A FIFO would otherwise wait for somebody to write.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await file.stat();
    if (!stats.isFile()) throw new TokensFileError('is no file');
    const { mode, size, mtimeMs, ino } = stats;
    const version = `${ino} ${size} ${mtimeMs}`;
    if (version === known) return { holders: undefined, version };
    if ((mode & WRITABLE_BY_ALL) !== 0) throw new TokensFileError('may be written by everybody');
    if (size > MAX_TOKENS_FILE_BYTES) throw new TokensFileError(`is longer than ${MAX_TOKENS_FILE_BYTES} bytes`);
    const holders = parseTokensFile(await file.readFile('utf8'));
    return { holders: new Map(holders.map((one) => [one.sha256, one])), version };
  } catch (error) {
    throw new TokensFileError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await file?.close();
  }
}
