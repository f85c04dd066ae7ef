/** What the commands know of the world around them; made once, in main.ts. */
import { NdjsonOutput } from './output/ndjson.js';
import type { Output, Write } from './output/output.js';
import { PlainOutput } from './output/plain.js';
import { TerminalOutput } from './output/terminal.js';

export interface Context {
  readonly stdout: NodeJS.WriteStream;
  readonly write: Write;
  /** Ends the command: Ctrl-C, SIGTERM, or nobody reads the output any more. */
  readonly signal: AbortSignal;
  /** Called at a second Ctrl-C: what must not outlive the command is killed. */
  onKill(kill: () => Promise<void>): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** LOCKSTEP_USER: whose jobs are submitted, if not those of whoever runs this. */
  readonly user: string | undefined;
  /** LOCKSTEP_SERVER. */
  readonly defaultServer: string | undefined;
  /** LOCKSTEP_TLS: folder with the certificate of whoever asks. */
  readonly tlsFolder: string | undefined;
  /** Interpreter for the engines of a local cluster. */
  readonly python: string;
  /** Folder that contains dist/. */
  readonly repository: string;
}

export function outputFor(context: Context, json: boolean): Output {
  if (json) return new NdjsonOutput(context.write);
  return context.stdout.isTTY ? new TerminalOutput(context.stdout, context.write) : new PlainOutput(context.write);
}
