/** The options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  CredentialError,
  type Credentials,
  credentialFilesOf,
  readCredentials,
} from '../shared/identity/credential_files.js';
import { type JobChange, parseChange } from '../shared/job_changes.js';
import type { Context } from './context.js';
import { CliError, exitCodes } from './exit_codes.js';
import { JobsClient } from './jobs_client.js';

export const MAX_WORKERS = 256;
export const MAX_COORDINATORS = 9;
const MAX_SERVERS = 16;
const MAX_PORT = 65_535;
const MAX_SECONDS = 1_000_000;

export interface JsonOption {
  readonly json?: true;
}

export interface ServerOption {
  readonly server?: string;
  readonly tlsDir?: string;
}

export interface TimeoutOption {
  readonly timeout?: number;
}

export function wholeNumberOption(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,16}$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** For an option that can be given several times. */
function repeated(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

export interface ChangeOptions {
  /** key=value */
  readonly set?: readonly string[];
}

export function withChanges(command: Command): Command {
  const help = 'change a key of the job file, as data.tail=keep; can be repeated';
  return command.option('--set <key=value>', help, repeated);
}

/** Throws a JobSpecError that names the key. */
export function changesIn({ set }: ChangeOptions): readonly JobChange[] {
  return (set ?? []).map(parseChange);
}

export function withJson(command: Command): Command {
  return command.option('--json', 'print one JSON object a line');
}

export function withServer(command: Command): Command {
  return command
    .option('--server <host:port>', 'a coordinator, or several with commas (default: LOCKSTEP_SERVER)')
    .option('--tls-dir <folder>', 'your ca.pem, cert.pem and key.pem (default: LOCKSTEP_TLS)');
}

export function withTimeout(command: Command): Command {
  const timeout = new Option('--timeout <seconds>', 'give up after this time, with exit code 124');
  return command.addOption(timeout.argParser(wholeNumberOption(1, MAX_SECONDS)));
}

/** Runs `use` with a client of the coordinators that the options name. */
export async function withClient<T>(
  context: Context,
  options: ServerOption,
  use: (client: JobsClient) => Promise<T>,
  signal = context.signal,
): Promise<T> {
  const client = new JobsClient({
    servers: serversOf(options.server ?? context.defaultServer),
    signal,
    user: context.user,
    credentials: credentialsIn(options.tlsDir ?? context.tlsFolder),
  });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

/** Undefined without a folder: then nothing is encrypted, as in a cluster on one machine. */
export function credentialsIn(folder: string | undefined): Credentials | undefined {
  if (folder === undefined || folder === '') return undefined;
  try {
    return readCredentials(credentialFilesOf(folder));
  } catch (error) {
    if (!(error instanceof CredentialError)) throw error;
    throw new CliError(exitCodes.notAllowed, error.message);
  }
}

export function serversOf(text: string | undefined): readonly string[] {
  if (text === undefined || text === '') {
    throw new CliError(exitCodes.usage, 'no server is named; give --server host:port or set LOCKSTEP_SERVER');
  }
  const servers = text.split(',');
  const bad = servers.find((one) => !isHostAndPort(one));
  if (bad !== undefined) throw new CliError(exitCodes.usage, `--server: ${JSON.stringify(bad)} is not host:port`);
  if (servers.length > MAX_SERVERS) throw new CliError(exitCodes.usage, `--server: at most ${MAX_SERVERS} servers`);
  return servers;
}

function isHostAndPort(text: string): boolean {
  const [, port] = /^(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(text) ?? [];
  return port !== undefined && Number(port) <= MAX_PORT;
}

/** Runs `use` with a signal that ends it after `seconds`; running out of time is then an error of its own. */
export async function withinSeconds<T>(
  context: Context,
  seconds: number | undefined,
  use: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (seconds === undefined) return use(context.signal);
  const timeout = AbortSignal.timeout(seconds * 1000);
  try {
    return await use(AbortSignal.any([context.signal, timeout]));
  } catch (error) {
    if (!timeout.aborted || context.signal.aborted) throw error;
    throw new CliError(exitCodes.timedOut, `not done within ${seconds} s`);
  }
}
