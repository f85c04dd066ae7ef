/**
 * Tokens that let people and scrapers into the dashboard, and the file that says whose they are. Only their sha256 is kept: whoever
 * reads the file cannot get in with it. A token has 256 random bits, so a plain hash is enough.
 */
import { createHash, randomBytes } from 'node:crypto';
import { roleOf, USER_ROLES, type UserRole } from './role.js';

const MARK = 'lockstep_';
const TOKEN_BYTES = 32;
/** Longer ones are none, and are not looked at. */
const MAX_TOKEN_CHARACTERS = 256;
const SHA256_HEX = /^[0-9a-f]{64}$/;
/** Names as people sign in with: also addresses of mail. */
export const HOLDER = /^[A-Za-z0-9][A-Za-z0-9._@+-]{0,126}$/;
export const HOLDER_TEXT = "1 to 127 letters, digits, '.', '_', '@', '+' and '-', beginning with a letter or digit";
export const MAX_TOKENS_FILE_BYTES = 262_144;
const MAX_TOKENS = 1_000;
const NAME_DIGITS = 8;

export interface TokenHolder {
  readonly name: string;
  readonly role: UserRole;
  /** Of the token, in hexadecimal. */
  readonly sha256: string;
}

/** A file of tokens was refused: one line that names the line and what is wrong with it. */
export class TokensFileError extends Error {
  override readonly name = 'TokensFileError';
}

export function newToken(): string {
  return MARK + randomBytes(TOKEN_BYTES).toString('base64url');
}

/** Undefined for what is too long to be a token. */
export function sha256OfToken(token: string): string | undefined {
  if (token.length > MAX_TOKEN_CHARACTERS) return undefined;
  return createHash('sha256').update(token).digest('hex');
}

export function lineOfHolder({ name, role, sha256 }: TokenHolder): string {
  return `${name} ${role} ${sha256}`;
}

/** Lines of `NAME ROLE SHA256`, or of a hash alone, whose holder only looks. Empty lines and those that begin with # say nothing. */
export function parseTokensFile(text: string): readonly TokenHolder[] {
  const holders = text.split('\n').flatMap((line, index) => {
    const words = line.trim().split(/\s+/);
    return words[0] === '' || words[0]?.startsWith('#') ? [] : [holderOf(words, index + 1)];
  });
  if (holders.length > MAX_TOKENS) throw new TokensFileError(`has ${holders.length} tokens, more than ${MAX_TOKENS}`);
  return holders;
}

function holderOf(words: readonly string[], line: number): TokenHolder {
  const [first = '', roleWord = '', hash = ''] = words;
  if (words.length === 1 && SHA256_HEX.test(first)) {
    return { name: `token-${first.slice(0, NAME_DIGITS)}`, role: 'viewer', sha256: first };
  }
  const role = roleOf(roleWord);
  if (words.length !== 3) throw new TokensFileError(`line ${line}: must be NAME ROLE SHA256, or a sha256 alone`);
  if (!HOLDER.test(first)) throw new TokensFileError(`line ${line}: the name must be ${HOLDER_TEXT}`);
  if (role === undefined) throw new TokensFileError(`line ${line}: the role must be ${USER_ROLES.join(', ')}`);
  if (!SHA256_HEX.test(hash)) throw new TokensFileError(`line ${line}: the sha256 must be 64 hexadecimal digits`);
  return { name: first, role, sha256: hash };
}
