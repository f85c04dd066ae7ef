/** What could come next in a command line, from the commands and options themselves and from what a coordinator knows. */
import type { Argument, Command, Option } from 'commander';

export interface Candidate {
  readonly value: string;
  /** For shells that show one; empty for none. */
  readonly description: string;
}

/** What a coordinator knows; empty when it does not answer at once. */
export interface KnownNames {
  jobs(server: string | undefined): Promise<readonly Candidate[]>;
  workers(server: string | undefined): Promise<readonly Candidate[]>;
}

/** Names of files and folders, which the shell knows best. */
export const FILES = 'files';
export type Candidates = readonly Candidate[] | typeof FILES;

/** Long options whose value is the name of a file or folder. */
const FILE_OPTIONS: ReadonlySet<string> = new Set(['dir', 'output', 'checkpoints', 'initFrom', 'config', 'tlsDir']);

/** `words` are those after the name of the program; the last one, perhaps empty, is the one to complete. */
export async function candidatesFor(
  program: Command,
  words: readonly string[],
  known: KnownNames,
): Promise<Candidates> {
  const partial = words.at(-1) ?? '';
  const all = await allCandidates(program, words.slice(0, -1), partial, known);
  return all === FILES ? all : all.filter(({ value }) => value.startsWith(partial));
}

async function allCandidates(
  program: Command,
  [name, ...before]: readonly string[],
  partial: string,
  known: KnownNames,
): Promise<Candidates> {
  if (name === undefined) return commandsOf(program);
  const command = program.commands.find((one) => one.name() === name);
  if (command === undefined) return [];
  if (command.commands.length > 0) return allCandidates(command, before, partial, known);
  const { server, waiting, operands } = readWords(command, before);
  if (waiting !== undefined) return valuesOf(waiting, server, known);
  if (partial.startsWith('-')) return optionsOf(command);
  const argument = command.registeredArguments[operands];
  return argument === undefined ? optionsOf(command) : operandsOf(argument, server, known);
}

function commandsOf(program: Command): readonly Candidate[] {
  const visible = program.createHelp().visibleCommands(program);
  return visible.map((command) => ({ value: command.name(), description: command.description() }));
}

function optionsOf(command: Command): readonly Candidate[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ long, description }) => (long === undefined || long === null ? [] : [{ value: long, description }]));
}

interface Read {
  readonly server: string | undefined;
  /** The option whose value comes next. */
  readonly waiting: Option | undefined;
  /** Arguments that are given already. */
  readonly operands: number;
}

function readWords(command: Command, words: readonly string[]): Read {
  let server: string | undefined;
  let waiting: Option | undefined;
  let operands = 0;
  for (const word of words) {
    if (waiting !== undefined) {
      if (waiting.long === '--server') server = word;
      waiting = undefined;
    } else if (word.startsWith('-')) {
      const option = command.options.find(({ long, short }) => word === long || word === short);
      waiting = option?.required ? option : undefined;
      if (word.startsWith('--server=')) server = word.slice('--server='.length);
    } else operands += 1;
  }
  return { server, waiting, operands };
}

function valuesOf(option: Option, server: string | undefined, known: KnownNames): Promise<Candidates> | Candidates {
  if (option.argChoices !== undefined) return option.argChoices.map(plain);
  if (option.attributeName() === 'worker') return known.workers(server);
  return FILE_OPTIONS.has(option.attributeName()) ? FILES : [];
}

function operandsOf(
  argument: Argument,
  server: string | undefined,
  known: KnownNames,
): Promise<Candidates> | Candidates {
  if (argument.argChoices !== undefined) return argument.argChoices.map(plain);
  if (argument.name() === 'job') return known.jobs(server);
  return FILES;
}

function plain(value: string): Candidate {
  return { value, description: '' };
}
