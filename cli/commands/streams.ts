/** The commands that show something as it happens: watch, events, logs. */
import { type Context, outputFor } from '../context.js';
import { type ExitCode, exitCodeOfJob, exitCodes } from '../exit_codes.js';
import { followJob } from '../follow.js';
import { type JsonOption, type ServerOption, type TimeoutOption, withClient, withinSeconds } from '../options.js';
import { logLine } from '../output/event_line.js';
import { logJson } from '../output/json.js';
import { NdjsonOutput } from '../output/ndjson.js';
import { PlainOutput } from '../output/plain.js';

export interface WatchOptions extends JsonOption, ServerOption, TimeoutOption {
  readonly from: number;
}

/** Ends as the job does. */
export function watch(context: Context, job: string, options: WatchOptions): Promise<ExitCode> {
  return withinSeconds(context, options.timeout, async (signal) => {
    const output = outputFor(context, options.json === true);
    try {
      const follow = { job, fromSequence: options.from, output };
      const end = await withClient(context, options, (client) => followJob({ ...follow, client }), signal);
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
    for await (const event of client.watch(job, options.from, options.follow === true)) output.event(event);
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
    const { job: id } = await client.get(job);
    for await (const entry of client.logs(id, options.follow === true, { worker, attempt, tail })) {
      const line = options.json ? JSON.stringify(logJson(id, entry)) : logLine(entry);
      context.write(`${line}\n`);
    }
    return exitCodes.ok;
  });
}
