/** Logging in, and out: the cookie that this is about cannot be read by any script. */
import { parseVisit, type Visit } from '../shared/wire/dashboard.js';

const ANSWER_MS = 10_000;

export async function askWho(): Promise<Visit> {
  const answer = await ask('/who');
  return parseVisit(await answer.text());
}

/** What must be shown by whoever changes something. */
export async function readPageToken(): Promise<string> {
  const answer = await ask('/token');
  return (await answer.text()).trim();
}

/** Resolves with what went wrong, or with an empty text. */
export async function logIn(token: string): Promise<string> {
  try {
    const answer = await ask('/login', { method: 'POST', body: token });
    return answer.ok ? '' : (await answer.text()).trim();
  } catch {
    return 'the coordinator does not answer';
  }
}

export async function logOut(): Promise<void> {
  await ask('/logout', { method: 'POST' }).catch(() => undefined);
}

function ask(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(path, { ...init, signal: AbortSignal.timeout(ANSWER_MS) });
}
