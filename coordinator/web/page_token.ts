/**
 * What a page must show to change anything. It gets one from /token, which browsers let only our own pages read. Who may do what
 * is said by acts.ts.
 */
import { randomBytes } from 'node:crypto';
import { Signer } from './signer.js';

export class PageTokens {
  readonly #signer = new Signer();

  issue(): string {
    return this.#signer.signed(randomBytes(16).toString('base64url'));
  }

  allows(token: string): boolean {
    return this.#signer.read(token) !== undefined;
  }
}
