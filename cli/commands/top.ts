/** `lockstep top`: jobs and workers as they are now, again and again. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import type { JobsClient } from '../jobs_client.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { jobJson, nodeJson, usageJson } from '../output/json.js';
import { ratesBetween, type Snapshot, topText } from '../output/top_table.js';

/**
 * The alternate screen, without a cursor, and without wrapping: the terminal cuts lines of wide characters, which take more columns than
 * they are long. What was there before comes back at the end.
 */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l';
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

export interface TopOptions extends JsonOption, ServerOption {
  readonly once?: true;
  readonly interval: number;
}

/** With a terminal, or with --json, it goes on until it is interrupted. */
export async function top(context: Context, options: TopOptions): Promise<ExitCode> {
  const json = options.json === true;
  const once = options.once === true || (!context.stdout.isTTY && !json);
  const screen = !once && !json;
  if (screen) context.write(ENTER);
  try {
    const intervalMs = options.interval * 1000;
    await withClient(context, options, (client) => look(context, client, { json, once, screen, intervalMs }));
    return exitCodes.ok;
  } finally {
    if (screen) context.write(LEAVE);
  }
}

interface LookOptions {
  readonly json: boolean;
  readonly once: boolean;
  /** Each look replaces the one before it. */
  readonly screen: boolean;
  readonly intervalMs: number;
}

async function look(context: Context, client: JobsClient, options: LookOptions): Promise<void> {
  let before: Snapshot | undefined;
  for (;;) {
    const now = await snapshotOf(client);
    context.write(shown(context, now, before, options));
    if (options.once) return;
    before = now;
    await delay(options.intervalMs, undefined, { signal: context.signal }).catch(() => {
      throw new CliError(exitCodes.interrupted, 'interrupted');
    });
  }
}

function shown(context: Context, now: Snapshot, before: Snapshot | undefined, options: LookOptions): string {
  if (options.json) return `${JSON.stringify(topJson(now))}\n`;
  const text = topText(now, ratesBetween(before, now));
  return options.screen ? pageOf(text, context.stdout) : `${text}\n`;
}

async function snapshotOf(client: JobsClient): Promise<Snapshot> {
  const [jobs, nodes, usage] = await Promise.all([client.list(), client.nodes(), client.usage()]);
  return { timeMs: Date.now(), jobs, nodes, usage };
}

function topJson({ timeMs, jobs, nodes, usage }: Snapshot): object {
  const { event: _, ...used } = usageJson(usage);
  return { event: 'top', time_ms: timeMs, jobs: jobs.map(jobJson), nodes: nodes.map(nodeJson), usage: used };
}

/** Drawn over the page before it, line by line, so that nothing flickers; what does not fit is cut. */
function pageOf(text: string, { rows, columns }: NodeJS.WriteStream): string {
  const lines = text.split('\n').slice(0, Math.max(1, rows - 1));
  return HOME + lines.map((line) => `${line.slice(0, columns)}${CLEAR_LINE}\n`).join('') + CLEAR_BELOW;
}
