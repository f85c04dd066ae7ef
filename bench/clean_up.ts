/** What a benchmark has started or made on this machine is ended and removed, however the benchmark ends. */
import { constants } from 'node:os';

/** What the user can put right; told in one line. */
export class UsageError extends Error {}

class Interrupted extends Error {
  constructor(readonly signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') {
    super(`interrupted by ${signal}`);
  }
}

type End = () => void | Promise<void>;

export class CleanUp {
  readonly #ends = new Set<() => Promise<void>>();

  /** Returns what ends it now; otherwise it ends with the benchmark. */
  add(end: End): () => Promise<void> {
    const once = async (): Promise<void> => {
      if (this.#ends.delete(once)) await end();
    };
    this.#ends.add(once);
    return once;
  }

  /** The latest first. */
  async endAll(): Promise<void> {
    for (const end of [...this.#ends].reverse()) {
      await end().catch((error: unknown) => process.stderr.write(`cleaning up: ${String(error)}\n`));
    }
  }
}

/** Runs a benchmark, cleans up after it, and ends this process with 0, 1 for a failure, 2 for a wrong use, or as the signal says. */
export async function runBenchmark(run: (cleanUp: CleanUp) => Promise<void>): Promise<never> {
  const cleanUp = new CleanUp();
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => reject(new Interrupted(signal)));
    }
  });
  let code = 0;
  try {
    await Promise.race([run(cleanUp), interrupted]);
  } catch (error) {
    code = exitCodeOf(error);
    process.stderr.write(`${lineFor(error)}\n`);
  }
  await cleanUp.endAll();
  process.exit(code);
}

function exitCodeOf(error: unknown): number {
  if (error instanceof Interrupted) return 128 + constants.signals[error.signal];
  return error instanceof UsageError ? 2 : 1;
}

function lineFor(error: unknown): string {
  if (error instanceof Interrupted || error instanceof UsageError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
