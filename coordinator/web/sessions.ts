/**
 * What a browser shows instead of its token once it has logged in: which token it was, and until when, signed by this process. Nothing is
 * kept of it here. Another process, or one that was started again, asks for the token again.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export const SESSION_SECONDS = 12 * 3600;

export class Sessions {
  readonly #secret = randomBytes(32);

  issue(sha256: string, wallMs: number): string {
    const session = `${sha256}.${Math.floor(wallMs / 1000) + SESSION_SECONDS}`;
    return `${session}.${this.#sign(session)}`;
  }

  /** sha256 of the token that it was issued for; undefined if it was not, or is over. */
  tokenOf(text: string, wallMs: number): string | undefined {
    const [sha256 = '', until = '', signature = ''] = text.split('.');
    const given = Buffer.from(signature);
    const right = Buffer.from(this.#sign(`${sha256}.${until}`));
    const isSigned = given.length === right.length && timingSafeEqual(given, right);
    return isSigned && wallMs < Number(until) * 1000 ? sha256 : undefined;
  }

  #sign(session: string): string {
    return createHmac('sha256', this.#secret).update(session).digest('base64url');
  }
}
