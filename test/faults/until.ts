/** Waiting, never without a limit and a name for what is waited for. */
import { setTimeout as delay } from 'node:timers/promises';

export interface Waiting {
  readonly limitMs: number;
  /** What is waited for, for the error. */
  readonly what: string;
  readonly everyMs?: number;
}

/** Polls until `look` gives something other than undefined and false. */
export async function until<T>(
  look: () => T | undefined | false | Promise<T | undefined | false>,
  { limitMs, what, everyMs = 20 }: Waiting,
): Promise<T> {
  const untilMs = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > untilMs) throw new Error(`waited ${limitMs / 1000} s in vain for ${what}`);
    await delay(everyMs);
  }
}
