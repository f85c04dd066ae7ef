/** The commands about machines: nodes, cordon, uncordon, drain. */
import { setTimeout as delay } from 'node:timers/promises';
import { printable } from '../../shared/text/printable.js';
import type { Node } from '../../shared/wire/jobs.js';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import type { JobsClient } from '../jobs_client.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { nodeJson } from '../output/json.js';
import { print } from '../output/print.js';
import { tableOf } from '../output/table.js';
import { engineCells, engineText, hostCell } from '../output/usage_cells.js';

type Options = JsonOption & ServerOption;

export interface ReasonOptions extends JsonOption, ServerOption {
  readonly reason?: string;
}

export interface DrainOptions extends ReasonOptions {
  /** Seconds. */
  readonly deadline: number;
}

const NODE_COLUMNS = [
  ...['worker', 'host', 'pid', 'state', 'job', 'step', 'engine', 'cores', 'memory'],
  ...['cpus', 'host memory', 'gpus', 'labels', ''],
];
const LOOK_MS = 200;
/** Past the deadline the worker is told to unload, which takes a moment. */
const GRACE_MS = 10_000;

export async function listNodes(context: Context, options: Options): Promise<ExitCode> {
  const nodes = await withClient(context, options, (client) => client.nodes());
  print(context, options, nodes.map(nodeJson), () => tableOf(NODE_COLUMNS, nodes.map(nodeRow)));
  return exitCodes.ok;
}

export async function cordon(context: Context, worker: string, options: ReasonOptions): Promise<ExitCode> {
  const node = await withClient(context, options, (client) => client.cordon(worker, options.reason ?? ''));
  print(context, options, [nodeJson(node)], () => `${worker} gets no new work: ${printable(node.cordoned)}`);
  return exitCodes.ok;
}

export async function uncordon(context: Context, worker: string, options: Options): Promise<ExitCode> {
  const node = await withClient(context, options, (client) => client.uncordon(worker));
  print(context, options, [nodeJson(node)], () => `${worker} gets work again`);
  return exitCodes.ok;
}

/** Ends when the worker has no job any more. */
export async function drain(context: Context, worker: string, options: DrainOptions): Promise<ExitCode> {
  const deadlineMs = options.deadline * 1000;
  const node = await withClient(context, options, async (client) => {
    await client.drain(worker, options.reason ?? '', deadlineMs);
    return untilIdle(context, client, worker, deadlineMs + GRACE_MS);
  });
  print(context, options, [nodeJson(node)], () => printable(`${worker} has no job and gets none: ${node.cordoned}`));
  return exitCodes.ok;
}

async function untilIdle(context: Context, client: JobsClient, worker: string, limitMs: number): Promise<Node> {
  const startMs = performance.now();
  while (performance.now() - startMs < limitMs) {
    const node = (await client.nodes()).find((one) => one.worker === worker);
    if (node === undefined) throw new CliError(exitCodes.notFound, `${worker} is gone; it stays cordoned`);
    if (node.job === '') return node;
    await delay(LOOK_MS, undefined, { signal: context.signal }).catch(() => {
      throw new CliError(exitCodes.interrupted, `interrupted; ${worker} is drained all the same`);
    });
  }
  throw new CliError(exitCodes.timedOut, `${worker} still has a job; look at its log, and at that of its engine`);
}

function nodeRow(node: Node): readonly string[] {
  const { labels, cpus, gpus } = node.machine;
  const shownLabels = [...labels].map(([label, value]) => `${label}=${value}`).join(' ');
  const notes = [
    node.cordoned === '' ? '' : `cordoned: ${node.cordoned}`,
    node.marked === '' ? '' : `marked: ${node.marked}`,
    node.quarantined === '' ? '' : `quarantined: ${node.quarantined}`,
  ].filter((note) => note !== '');
  return [
    node.worker,
    node.host,
    String(node.pid),
    node.state,
    node.job,
    String(node.committed),
    engineText(node),
    ...engineCells(node),
    String(cpus),
    hostCell(node),
    String(gpus),
    shownLabels,
    notes.join('; '),
  ];
}
