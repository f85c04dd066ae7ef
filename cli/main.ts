/** The command line: `bin/lockstep`. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { exitCodes } from './exit_codes.js';
import { runProgram } from './program.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));

const ended = new AbortController();
const killed: (() => Promise<void>)[] = [];
/** Told to end a second time, it kills what it has started. */
let killing: Promise<unknown> | undefined;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (ended.signal.aborted) {
      killing ??= Promise.allSettled(killed.map((kill) => kill()));
      void killing.then(() => process.exit(exitCodes.interrupted));
      return;
    }
    ended.abort();
  });
}
let unread = false;
process.stdout.once('error', (error) => {
  // Nobody reads any more, as in `lockstep run --json | head -1`.
  unread = 'code' in error && error.code === 'EPIPE';
  if (!unread) {
    fail(`the output cannot be written: ${error.message}`);
    process.on('exit', () => {
      process.exitCode = exitCodes.jobFailed;
    });
  }
  // In good order: what was started must be ended.
  ended.abort();
});
// Each write fails then, and what is said of it may not be heard either.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

function fail(line: string): void {
  if (!unread) process.stderr.write(`lockstep: ${line}\n`);
}

/** The interpreter that deploy/setup.sh chose. */
function chosenPython(): string {
  try {
    return readFileSync(new URL('../.python', import.meta.url), 'utf8').trim();
  } catch {
    return 'python3';
  }
}

try {
  process.exitCode = await runProgram(
    {
      stdout: process.stdout,
      write: (text) => process.stdout.write(text),
      signal: ended.signal,
      onKill: (kill) => killed.push(kill),
      environment: process.env,
      user: process.env['LOCKSTEP_USER'],
      defaultServer: process.env['LOCKSTEP_SERVER'],
      tlsFolder: process.env['LOCKSTEP_TLS'],
      python: process.env['LOCKSTEP_PYTHON'] ?? chosenPython(),
      repository,
    },
    process.argv.slice(2),
    fail,
  );
} catch (error) {
  fail(`a fault of lockstep itself: ${error instanceof Error ? error.stack : String(error)}`);
  process.exitCode = exitCodes.jobFailed;
}

/** A connection to a machine that does not answer, as one that is cut off, would keep this process for minutes after its last word. */
const written = (stream: NodeJS.WriteStream): Promise<void> => new Promise((said) => stream.write('', () => said()));
await Promise.all([process.stdout, process.stderr].map(written));
if (killing === undefined) process.exit();
