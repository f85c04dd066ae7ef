/** What a browser shows instead of its token once it has logged in: which token it was, and until when. After a restart the token is asked for again. */
import { Signer } from './signer.js';

export const SESSION_SECONDS = 12 * 3600;

export class Sessions {
  readonly #signer = new Signer();

  issue(sha256: string, wallMs: number): string {
    return this.#signer.signed(`${sha256}.${Math.floor(wallMs / 1000) + SESSION_SECONDS}`);
  }

  /** sha256 of the token that it was issued for; undefined if it was not, or is over. */
  tokenOf(session: string, wallMs: number): string | undefined {
    const [sha256, until] = this.#signer.read(session)?.split('.') ?? [];
    return wallMs < Number(until) * 1000 ? sha256 : undefined;
  }
}
