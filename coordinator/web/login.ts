/** A page exchanges a token for a cookie that scripts cannot read and other sites cannot send, and gives it back. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendRefusal, sendText } from './answers.js';
import type { Audit } from './audit.js';
import type { Asking, Visitors } from './visitors.js';

const MAX_BODY_BYTES = 1_024;

export interface LoginOptions {
  readonly visitors: Visitors;
  readonly audit: Audit;
  /** Over TLS, as far as the browser is concerned: then it sends the cookie over nothing else. */
  readonly secure: boolean;
}

/** The body is the token, and nothing else. */
export async function logIn(
  request: IncomingMessage,
  response: ServerResponse,
  { headers, client }: Asking,
  { visitors, audit, secure }: LoginOptions,
): Promise<void> {
  if (!visitors.takesTokens) {
    sendText(response, 404, 'there are no tokens here');
    return;
  }
  const token = await bodyOf(request);
  if (token === undefined) {
    response.setHeader('Connection', 'close');
    sendText(response, 413, `a token has at most ${MAX_BODY_BYTES} bytes`);
    return;
  }
  const outcome = visitors.logIn(token.trim(), client);
  if ('refusal' in outcome) {
    // Those that are not even looked at would fill the log.
    if (outcome.refusal.status === 401) {
      audit({ act: 'log in', who: '', role: '', from: client, outcome: outcome.refusal.reason });
    }
    sendRefusal(response, outcome.refusal);
    return;
  }
  const { holder } = outcome;
  audit({ act: 'log in', who: holder.name, role: holder.role, from: client, outcome: '' });
  response.setHeader('Set-Cookie', visitors.cookieFor(holder, secure));
  sendText(response, 200, `logged in as ${holder.name} on ${headers.host ?? ''}`);
}

export function logOut(response: ServerResponse, { visitors, secure }: LoginOptions): void {
  response.setHeader('Set-Cookie', visitors.cookieFor(undefined, secure));
  sendText(response, 200, 'logged out');
}

/** Undefined if it is too long. The server's own deadline bounds how long this takes. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    const part = Buffer.from(chunk);
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString('utf8');
}
