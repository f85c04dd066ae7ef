/** `lockstep completion SHELL`, and what the scripts that it prints ask for. */
import type { Command } from 'commander';
import { printable } from '../../shared/text/printable.js';
import { type Candidate, candidatesFor, FILES, type KnownNames } from '../completion/candidates.js';
import { completionScript, FILES_MARK, type Shell } from '../completion/scripts.js';
import { wordsOf } from '../completion/words.js';
import type { Context } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { JobsClient } from '../jobs_client.js';
import { credentialsIn, serversOf } from '../options.js';

/** Nobody waits longer for a Tab. */
const ANSWER_MS = 1000;

export function completion(context: Context, shell: Shell): ExitCode {
  context.write(completionScript(shell));
  return exitCodes.ok;
}

/** One candidate a line, with a tab before its description. `line` is the command line up to the cursor. */
export async function complete(context: Context, program: Command, line: string): Promise<ExitCode> {
  const [, ...words] = wordsOf(line);
  const candidates = await candidatesFor(program, words, namesFrom(context));
  if (candidates === FILES) context.write(`${FILES_MARK}\n`);
  else
    for (const { value, description } of candidates) context.write(`${printable(value)}\t${printable(description)}\n`);
  return exitCodes.ok;
}

function namesFrom(context: Context): KnownNames {
  return {
    jobs: (server) =>
      ask(context, server, async (client) => {
        const jobs = [...(await client.list())].reverse();
        const ids = jobs.map(({ job, spec, state }) => ({ value: job, description: `${spec.name}, ${state}` }));
        const names = [...new Set(jobs.map(({ spec }) => spec.name))];
        return [...names.map((name) => ({ value: name, description: 'job' })), ...ids];
      }),
    workers: (server) =>
      ask(context, server, async (client) =>
        (await client.nodes()).map(({ worker, host, state }) => ({ value: worker, description: `${host}, ${state}` })),
      ),
  };
}

/** Nothing, where nobody answers in time or no server is named: a shell that completes has no place for errors. */
async function ask(
  context: Context,
  server: string | undefined,
  look: (client: JobsClient) => Promise<readonly Candidate[]>,
): Promise<readonly Candidate[]> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(ANSWER_MS)]);
  let client: JobsClient | undefined;
  try {
    const servers = serversOf(server ?? context.defaultServer);
    const credentials = credentialsIn(context.tlsFolder);
    client = new JobsClient({ servers, signal, requestMs: ANSWER_MS, credentials });
    return await look(client);
  } catch {
    return [];
  } finally {
    client?.close();
  }
}
