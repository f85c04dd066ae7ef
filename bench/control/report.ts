/** The results of the benchmark for people and for programs. */
import Table from 'cli-table3';
import { medianOf } from '../../shared/median.js';
import type { Measured } from './measure.js';

const round = (value: number, digits = 0): number => Number(value.toFixed(digits));

function spread(values: readonly number[]) {
  return { median: round(medianOf(values)), max: round(Math.max(...values)) };
}

export function summaryOf({ steady, changes, mass, ...measured }: Measured) {
  return {
    workers: measured.workers,
    jobs: measured.jobs,
    set_up_ms: round(measured.setUpMs),
    coordinator_cpu: round(steady.coordinatorCpu, 3),
    etcd_cpu: round(steady.etcdCpu, 3),
    simulated_workers_cpu: round(steady.workersCpu, 3),
    resident_mb: round(steady.residentMb),
    peak_mb: round(measured.peakMb),
    messages_from_workers_a_second: round(steady.fromWorkers),
    messages_to_workers_a_second: round(steady.toWorkers),
    loop_delay_ms: {
      mean: round(steady.loopDelay.meanMs, 1),
      p99: round(steady.loopDelay.p99Ms, 1),
      max: round(steady.loopDelay.maxMs, 1),
    },
    losses: changes.length,
    loss_to_start_ms: spread(changes.map((one) => one.lossMs)),
    loss_to_prepare_ms: spread(changes.map((one) => one.prepareMs)),
    coordinator_change_ms: spread(measured.coordinatorMs),
    loaded_to_start_ms: spread(changes.map((one) => one.joinMs)),
    mass_vanished: mass.vanished,
    mass_loss_to_start_ms: round(mass.lossMs),
    mass_return_ms: round(mass.joinMs),
    loop_delay_in_changes_ms: { p99: round(measured.loopDelay.p99Ms, 1), max: round(measured.loopDelay.maxMs, 1) },
    steps: measured.steps,
  };
}

type Summary = ReturnType<typeof summaryOf>;

const percent = (share: number): string => `${round(share * 100, 1)} %`;

const ROWS: readonly (readonly [string, (one: Summary) => string])[] = [
  ['jobs', (one) => String(one.jobs)],
  ['coordinator, of one core', (one) => percent(one.coordinator_cpu)],
  ['  resident memory; most in the run', (one) => `${one.resident_mb} MB; ${one.peak_mb} MB`],
  [
    '  messages a second, from workers; to them',
    (one) => `${one.messages_from_workers_a_second}; ${one.messages_to_workers_a_second}`,
  ],
  [
    '  event loop late, mean; 99 %; most',
    (one) => `${one.loop_delay_ms.mean}; ${one.loop_delay_ms.p99}; ${one.loop_delay_ms.max} ms`,
  ],
  ['etcd, of one core', (one) => percent(one.etcd_cpu)],
  ['simulated workers, of one core', (one) => percent(one.simulated_workers_cpu)],
  [
    'a worker is lost: reset to last start, median; most',
    (one) => `${one.loss_to_start_ms.median}; ${one.loss_to_start_ms.max} ms`,
  ],
  ['  of that, to the last prepare', (one) => `${one.loss_to_prepare_ms.median}; ${one.loss_to_prepare_ms.max} ms`],
  [
    '  at the coordinator: noticed to started',
    (one) => `${one.coordinator_change_ms.median}; ${one.coordinator_change_ms.max} ms`,
  ],
  [
    'a worker joins: loaded to last start, median; most',
    (one) => `${one.loaded_to_start_ms.median}; ${one.loaded_to_start_ms.max} ms`,
  ],
  ['many are lost at once', (one) => String(one.mass_vanished)],
  ['  first reset to last start of all jobs', (one) => `${one.mass_loss_to_start_ms} ms`],
  ['  all back: connect to last start', (one) => `${one.mass_return_ms} ms`],
  ['  event loop late in the changes, most', (one) => `${one.loop_delay_in_changes_ms.max} ms`],
  ['all workers connect, job by job: to the last start', (one) => `${one.set_up_ms} ms`],
];

export function tableOf(results: readonly Measured[]): string {
  const summaries = results.map(summaryOf);
  const table = new Table({
    head: ['workers', ...summaries.map((one) => String(one.workers))],
    colAligns: ['left', ...summaries.map(() => 'right' as const)],
  });
  for (const [name, of] of ROWS) table.push([name, ...summaries.map(of)]);
  return table.toString();
}
