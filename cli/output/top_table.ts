/** The picture that `lockstep top` shows: what trains, what waits, and who works. Pure. */

import { formatDuration, formatLoss } from '../../shared/text/numbers.js';
import { clusterClassesOf, hoursText, sharesText, totalOf } from '../../shared/text/worker_time.js';
import type { Job, Node, Usage } from '../../shared/wire/jobs.js';
import { tableOf } from './table.js';
import { engineCells, engineText, hostCell } from './usage_cells.js';

/** Jobs that have ended take up no more lines than this. */
const ENDED = 5;
const BAR_CELLS = 10;

export interface Snapshot {
  readonly timeMs: number;
  readonly jobs: readonly Job[];
  readonly nodes: readonly Node[];
  readonly usage: Usage;
}

/** Steps a second of each job between two looks; a job that was not there before has none. */
export function ratesBetween(before: Snapshot | undefined, now: Snapshot): ReadonlyMap<string, number> {
  const seconds = (now.timeMs - (before?.timeMs ?? now.timeMs)) / 1000;
  const earlier = new Map(before?.jobs.map(({ job, committed }) => [job, committed]));
  return new Map(
    now.jobs.flatMap(({ job, committed }) => {
      const steps = committed - (earlier.get(job) ?? committed);
      return seconds > 0 && steps > 0 ? [[job, steps / seconds] as const] : [];
    }),
  );
}

export function topText({ jobs, nodes, usage }: Snapshot, rates: ReadonlyMap<string, number>): string {
  const count = (state: Job['state']): number => jobs.filter((job) => job.state === state).length;
  const idle = nodes.filter(({ state }) => state === 'idle').length;
  const summary =
    `jobs: ${count('running')} running, ${count('queued')} queued, ${jobs.length - count('running') - count('queued')} ended` +
    `   workers: ${nodes.length}, ${idle} idle`;
  const jobTable = tableOf(
    ['job', 'name', 'state', 'progress', 'step', 'loss', 'steps/s', 'left', 'workers'],
    inOrder(jobs).map((job) => jobRow(job, rates.get(job.job))),
  );
  const nodeTable = tableOf(
    ['worker', 'host', 'state', 'job', 'step', 'loop ms', 'cores', 'memory', 'host memory', 'engine'],
    nodes.map((node) => nodeRow(node, jobs)),
  );
  return [summary, ...usageLine(usage), '', jobTable, '', nodeTable].join('\n');
}

/** Where the time of the workers went since this leader began. */
function usageLine(usage: Usage): readonly string[] {
  const classes = clusterClassesOf(usage);
  const total = totalOf(classes);
  return total === 0 ? [] : [`worker-hours: ${hoursText(total)}, ${sharesText(classes)}`];
}

/** What runs, what waits, and the newest of what has ended. */
function inOrder(jobs: readonly Job[]): readonly Job[] {
  const running = jobs.filter(({ state }) => state === 'running');
  const queued = jobs.filter(({ state }) => state === 'queued');
  const ended = jobs.filter(({ state }) => state !== 'running' && state !== 'queued');
  return [...running, ...queued, ...ended.slice(-ENDED).reverse()];
}

function jobRow(job: Job, rate: number | undefined): readonly string[] {
  const left = job.steps - job.committed;
  return [
    job.job,
    job.spec.name,
    job.state,
    bar(job),
    job.steps === 0 ? String(job.committed) : `${job.committed}/${job.steps}`,
    job.loss === undefined ? '' : formatLoss(job.loss),
    rate === undefined ? '' : rate.toPrecision(3),
    rate === undefined || left <= 0 ? '' : formatDuration(left / rate),
    job.state === 'running' ? job.workers.join(' ') : job.reason.slice(0, 60),
  ];
}

function bar({ committed, steps }: Job): string {
  const cells = steps === 0 ? 0 : Math.floor((committed / steps) * BAR_CELLS);
  return '#'.repeat(cells).padEnd(BAR_CELLS, '.');
}

function nodeRow(node: Node, jobs: readonly Job[]): readonly string[] {
  const name = jobs.find(({ job }) => job === node.job)?.spec.name ?? node.job;
  const delay = node.loopDelayMs.toFixed(1);
  const step = node.job === '' ? '' : String(node.committed);
  const used = [...engineCells(node), hostCell(node)];
  return [node.worker, node.host, node.state, name, step, delay, ...used, engineText(node)];
}
