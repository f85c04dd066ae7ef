/** The file of tokens, read again when it has changed: whoever is taken out of it is out at once. */
import { timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, open, stat } from 'node:fs/promises';
import {
  MAX_TOKENS_FILE_BYTES,
  parseTokensFile,
  sha256OfToken,
  type TokenHolder,
  TokensFileError,
} from '../../shared/bearer_token.js';
import { ChangedFiles, LOOK_MS } from '../../shared/changed_files.js';
import { ConfigError } from '../../shared/config.js';
import type { Logger } from '../../shared/logger.js';
import type { DashboardConfig } from './dashboard_config.js';

/** Whoever may write the file may let anybody in. */
const WRITABLE_BY_ALL = 0o002;
const READABLE_BY_ALL = 0o004;

type Holders = ReadonlyMap<string, TokenHolder>;

export class TokensFile {
  readonly #timer: NodeJS.Timeout;
  /** By the hash of their token. */
  #holders: Holders = new Map();

  /** Throws a TokensFileError that names the file. */
  static async open(path: string, log: Logger): Promise<TokensFile> {
    const tokens = new TokensFile(path, log);
    try {
      tokens.#holders = await read(path);
      return tokens;
    } catch (error) {
      tokens.close();
      throw error;
    }
  }

  private constructor(path: string, log: Logger) {
    const file = new ChangedFiles({
      paths: [path],
      read: () => read(path),
      onRead: (holders) => {
        this.#holders = holders;
        log.info('tokens read', { tokens: holders.size });
      },
      onRefused: (error) => log.error('the tokens that were read before still hold', { error }),
    });
    this.#timer = setInterval(() => void file.look(), LOOK_MS);
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
}

/**
 * Of a coordinator that does not run. Returns the reason if the file cannot be looked at from here. Throws a ConfigError if with it there would be
 * no dashboard.
 */
export async function checkTokensFile(
  { dashboard }: { readonly dashboard: DashboardConfig | undefined },
  configPath: string,
): Promise<string | undefined> {
  const path = dashboard?.tokens;
  if (path === undefined) return undefined;
  if (await isOutOfReach(path)) return `${path} may not be read`;
  try {
    await read(path);
  } catch (error) {
    throw new ConfigError(`${configPath}: dashboard.tokens: ${error instanceof Error ? error.message : String(error)}`);
  }
  // Root reads what the user of the unit, who is made when it starts, may not.
  const isForAll = ((await stat(path)).mode & READABLE_BY_ALL) !== 0;
  return isForAll || process.getuid?.() !== 0 ? undefined : `${path} may be read by root, but not by everybody`;
}

function isOutOfReach(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => false,
    (error: unknown) => error instanceof Error && 'code' in error && error.code === 'EACCES',
  );
}

async function read(path: string): Promise<Holders> {
  let file: FileHandle | undefined;
  try {
    // A FIFO would otherwise wait for somebody to write.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await file.stat();
    if (!stats.isFile()) throw new TokensFileError('is no file');
    if ((stats.mode & WRITABLE_BY_ALL) !== 0) throw new TokensFileError('may be written by everybody');
    if (stats.size > MAX_TOKENS_FILE_BYTES) throw new TokensFileError(`is longer than ${MAX_TOKENS_FILE_BYTES} bytes`);
    const holders = parseTokensFile(await file.readFile('utf8'));
    return new Map(holders.map((one) => [one.sha256, one]));
  } catch (error) {
    throw new TokensFileError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await file?.close();
  }
}
