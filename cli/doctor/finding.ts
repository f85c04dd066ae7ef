/** What `lockstep doctor` found: one line each. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'fail';
  /** What is there. */
  readonly found: string;
  /** What to do about it; empty when all is well. */
  readonly advice: string;
}

export function ok(check: string, found: string): Finding {
  return { check, status: 'ok', found, advice: '' };
}

export function warn(check: string, found: string, advice: string): Finding {
  return { check, status: 'warn', found, advice };
}

export function fail(check: string, found: string, advice: string): Finding {
  return { check, status: 'fail', found, advice };
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
