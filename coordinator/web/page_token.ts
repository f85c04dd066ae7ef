/**
 * What a page must show to change anything. It gets one from /token, which browsers let only our own pages read. Who may do what
 * is said by acts.ts.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export class PageTokens {
  readonly #secret = randomBytes(32);

  issue(): string {
    const page = randomBytes(16).toString('base64url');
    return `${page}.${this.#sign(page)}`;
  }

  allows(token: string): boolean {
    const [page = '', signature = ''] = token.split('.');
    const given = Buffer.from(signature);
    const right = Buffer.from(this.#sign(page));
    return given.length === right.length && timingSafeEqual(given, right);
  }

  #sign(page: string): string {
    return createHmac('sha256', this.#secret).update(page).digest('base64url');
  }
}
