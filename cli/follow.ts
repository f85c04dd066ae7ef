/** Shows a job until it has ended. */
import { setTimeout as delay } from 'node:timers/promises';
import type { JobEvent } from '../shared/wire/jobs.js';
import { CliError, type ExitCode, exitCodes } from './exit_codes.js';
import type { JobsClient } from './jobs_client.js';
import type { Output } from './output/output.js';

/** How long the end of a job waits for the last of its prints. */
const LAST_PRINTS_MS = 3000;
const PAUSE_MS = 500;

export type JobFinished = Extract<JobEvent, { kind: 'jobFinished' }>;

export interface FollowOptions {
  readonly client: JobsClient;
  readonly job: string;
  /** First event to show. */
  readonly fromSequence: number;
  readonly output: Output;
}

export async function followJob({ client, job, fromSequence, output }: FollowOptions): Promise<JobFinished> {
  const prints = output.showsLogs ? showPrints(client, job, output) : Promise.resolve();
  let next = fromSequence;
  for (;;) {
    for await (const event of client.watch(job, next, true)) {
      next = event.sequence + 1;
      if (event.kind === 'jobFinished') {
        // What the task printed at its end belongs before the line that says that it has ended.
        await Promise.race([prints, delay(LAST_PRINTS_MS, undefined, { ref: false })]);
        output.event(event);
        return event;
      }
      output.event(event);
    }
    // A coordinator that shuts down in good order ends the stream, too; another one goes on with it.
    const end = await endOf(client, job);
    if (end !== undefined) {
      output.event(end);
      return end;
    }
  }
}

/** The last event of a job that had ended before it was watched; undefined for one that has not ended. */
async function endOf(client: JobsClient, job: string): Promise<JobFinished | undefined> {
  await delay(PAUSE_MS);
  for await (const event of client.watch(job, 1, false)) if (event.kind === 'jobFinished') return event;
  return undefined;
}

/** The prints are worth less than the job: when they cannot be had, that is said and no more. */
async function showPrints(client: JobsClient, job: string, output: Output): Promise<void> {
  try {
    for await (const entry of client.logs(job, true)) output.log(entry);
  } catch (error) {
    // The watch, too, has found no such job, and says so.
    const said: readonly ExitCode[] = [exitCodes.interrupted, exitCodes.notFound];
    if (error instanceof CliError && said.includes(error.exitCode)) return;
    output.note(`the task's prints are not shown any more: ${error instanceof Error ? error.message : String(error)}`);
  }
}
