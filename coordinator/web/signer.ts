/** Texts that this process has signed, and knows again. Nothing is kept of them; those of another process are nothing to this one. */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export class Signer {
  readonly #secret = randomBytes(32);

  signed(text: string): string {
    return `${text}.${this.#signatureOf(text)}`;
  }

  /** What was signed; undefined if it was not, or not here. */
  read(signed: string): string | undefined {
    const end = signed.lastIndexOf('.');
    const text = signed.slice(0, Math.max(end, 0));
    const given = Buffer.from(signed.slice(end + 1));
    const right = Buffer.from(this.#signatureOf(text));
    return given.length === right.length && timingSafeEqual(given, right) ? text : undefined;
  }

  #signatureOf(text: string): string {
    return createHmac('sha256', this.#secret).update(text).digest('base64url');
  }
}
