/** The commands that show something as it happens: watch, events, logs. */
import { type Context, outputFor } from '../context.js';
import { type ExitCode, exitCodeOfJob, exitCodes } from '../exit_codes.js';
import { followJob } from '../follow.js';
import type { JobsClient } from '../jobs_client.js';
import { type JsonOption, type ServerOption, type TimeoutOption, withClient, withinSeconds } from '../options.js';
import { logLine } from '../output/event_line.js';
import { logJson } from '../output/json.js';
import { NdjsonOutput } from '../output/ndjson.js';
import { PlainOutput } from '../output/plain.js';

/** Asked once: in the course of a stream the name may come to mean another job. */
async function idOf(client: JobsClient, reference: string): Promise<string> {
  return (await client.get(reference)).job;
}

export interface WatchOptions extends JsonOption, ServerOption, TimeoutOption {
  readonly from: number;
}

/** Ends as the job does. */
export function watch(context: Context, job: string, options: WatchOptions): Promise<ExitCode> {
  return withinSeconds(context, options.timeout, async (signal) => {
    const output = outputFor(context, options.json === true);
    try {
      const follow = async (client: JobsClient) =>
        followJob({ client, job: await idOf(client, job), fromSequence: options.from, output });
      const end = await withClient(context, options, follow, signal);
      return exitCodeOfJob(end.state);
    } finally {
      output.close();
    }
  });
}

export interface EventsOptions extends JsonOption, ServerOption {
  readonly from: number;
  readonly follow?: true;
}

export function events(context: Context, job: string, options: EventsOptions): Promise<ExitCode> {
  const output = options.json ? new NdjsonOutput(context.write) : new PlainOutput(context.write);
  return withClient(context, options, async (client) => {
    for await (const event of client.watch(await idOf(client, job), options.from, options.follow === true))
      output.event(event);
    return exitCodes.ok;
  });
}

export interface LogsOptions extends JsonOption, ServerOption {
  readonly follow?: true;
  readonly worker?: string;
  readonly attempt?: number;
  readonly tail?: number;
}

export function logs(context: Context, job: string, options: LogsOptions): Promise<ExitCode> {
  return withClient(context, options, async (client) => {
    const { worker, attempt, tail } = options;
    const id = await idOf(client, job);
    for await (const entry of client.logs(id, options.follow === true, { worker, attempt, tail })) {
      const line = options.json ? JSON.stringify(logJson(id, entry)) : logLine(entry);
      context.write(`${line}\n`);
    }
    return exitCodes.ok;
  });
}
