/** What /metrics says, as a table: name, meaning, and how it is read from the state. docs/metrics.md describes the same names. */

import { classesOf, clusterClassesOf, type Share } from '../../shared/text/worker_time.js';
import { cordonedOf } from '../core/nodes.js';
import { markOf } from '../core/preflights.js';
import { totalSteps } from '../core/progress.js';
import { type CoordinatorState, isTerminal, type JobRun, type Worker } from '../core/state.js';
import { nodeState } from '../core/views.js';
import type { Histories } from './histories.js';
import type { JobTotals } from './job_history.js';
import { type Metric, type Sample, textOf } from './metrics_text.js';

/** Jobs that have ended stay so long after their last event, so that a scrape sees their end. */
const ENDED_JOBS_MS = 300_000;
const MAX_JOBS = 200;
const MAX_WORKERS = 1_000;
const WORKER_STATES = ['idle', 'measuring', 'loading', 'ready', 'training', 'leaving'];

export interface MetricsInput {
  readonly state: CoordinatorState;
  readonly histories: Histories;
  /** Milliseconds since 1970, as in the times of events. */
  readonly wallMs: number;
  readonly loopDelaySeconds: number;
  readonly viewers: number;
  readonly laggingViewers: number;
}

export function metricsText(input: MetricsInput): string {
  return textOf([...coordinatorMetrics(input), ...workerMetrics(input), ...jobMetrics(input)]);
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name: `lockstep_${name}`, type: 'gauge', help, samples };
}

function one(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

function coordinatorMetrics(input: MetricsInput): readonly Metric[] {
  const { state } = input;
  return [
    gauge('leader', 'Whether this coordinator leads: 1 or 0.', one(state.leading === undefined ? 0 : 1)),
    gauge('term', 'The term in which this coordinator leads; 0 if it does not.', one(state.leading?.term ?? 0)),
    gauge(
      'coordinator_loop_delay_seconds',
      'How late the main loop was: 99th percentile of the last seconds.',
      one(input.loopDelaySeconds),
    ),
    gauge('dashboard_viewers', 'Dashboard pages that are connected.', one(input.viewers)),
    gauge(
      'dashboard_viewers_lagging',
      'Pages that do not read fast enough and wait for a snapshot.',
      one(input.laggingViewers),
    ),
    gauge('jobs', 'Jobs by state.', counts(['queued', 'running', 'finished', 'failed', 'cancelled'], jobStates(state))),
    gauge(
      'price_per_worker_hour',
      'What a worker-hour costs, by the configuration; 0 if it does not say.',
      one(state.settings.pricePerWorkerHour),
    ),
    gauge(
      'cluster_worker_seconds',
      'Where the worker-seconds of all workers went since this coordinator leads.',
      clusterClassesOf({ ...state.cluster, ...state.cluster.unused, ...state.settings }).map(classSample),
    ),
    gauge(
      'cluster_queued_worker_seconds',
      'Worker-seconds that jobs without workers waited for since this coordinator leads.',
      one(state.cluster.jobs.queuedSeconds),
    ),
    gauge('workers', 'Workers by state.', counts(WORKER_STATES, workerStates(state))),
    gauge('workers_cordoned', 'Workers that get no new work, by decision.', one(countOf(state, cordonedOf))),
    gauge('workers_marked', 'Workers that get no job because of their pre-flight.', one(countOf(state, markOf))),
  ];
}

function classSample({ name, seconds }: Share): Sample {
  return { labels: { class: name }, value: seconds };
}

function* jobStates(state: CoordinatorState): Iterable<string> {
  for (const run of state.jobs.values()) yield run.record.state;
}

/** Workers that are there, and of which something is said. */
function countOf(state: CoordinatorState, said: (state: CoordinatorState, worker: string) => string): number {
  let count = 0;
  for (const worker of state.workers.keys()) if (said(state, worker) !== '') count += 1;
  return count;
}

function* workerStates(state: CoordinatorState): Iterable<string> {
  for (const worker of state.workers.values()) yield nodeState(state, worker);
}

function counts(all: readonly string[], seen: Iterable<string>): readonly Sample[] {
  const found = new Map(all.map((state) => [state, 0]));
  for (const state of seen) found.set(state, (found.get(state) ?? 0) + 1);
  return [...found].map(([state, value]) => ({ labels: { state }, value }));
}

function workerMetrics({ state }: MetricsInput): readonly Metric[] {
  const workers = [...state.workers.values()].slice(0, MAX_WORKERS);
  /** Workers of which it is not known are left out. */
  const each = (read: (worker: Worker) => number | undefined): readonly Sample[] =>
    workers.flatMap((worker) => {
      const value = read(worker);
      return value === undefined ? [] : [{ labels: { worker: worker.worker, host: worker.host }, value }];
    });
  return [
    gauge(
      'worker_loop_delay_seconds',
      "How late a worker's main loop was: 99th percentile of the last second.",
      each((worker) => worker.loopDelayMs / 1000),
    ),
    gauge(
      'worker_microbatch_seconds',
      'Median engine time of a microbatch; 0 until it is known.',
      each((worker) => worker.microbatchMs / 1000),
    ),
    gauge(
      'worker_engine_cores',
      'Cores that the engine of a worker keeps busy.',
      each((worker) => worker.engineUsage?.cores),
    ),
    gauge(
      'worker_engine_memory_bytes',
      'Resident memory of the engine of a worker.',
      each((worker) => worker.engineUsage?.memoryBytes),
    ),
    gauge(
      'worker_host_memory_used_bytes',
      "Memory of a worker's machine that is in use.",
      each((worker) => worker.hostUsedBytes),
    ),
    gauge(
      'worker_host_memory_bytes',
      "Memory of a worker's machine.",
      each((worker) => worker.machine.memoryBytes),
    ),
    gauge(
      'worker_gpu_memory_used_bytes',
      "Memory of a worker's GPU that is in use, by whomever.",
      each((worker) => worker.engineUsage?.device?.usedBytes),
    ),
    gauge(
      'worker_gpu_memory_bytes',
      "Memory of a worker's GPU.",
      each((worker) => worker.engineUsage?.device?.totalBytes),
    ),
  ];
}

/** Counters begin at 0 with every term and every process, as Prometheus expects of a counter. */
const JOB_COUNTERS: readonly (readonly [string, string, (totals: JobTotals) => number])[] = [
  ['job_steps_total', 'Steps that were reported.', (totals) => totals.steps],
  ['job_samples_total', 'Samples of those steps.', (totals) => totals.samples],
  ['job_step_seconds_total', 'Time of those steps.', (totals) => totals.stepSeconds],
  ['job_data_seconds_total', 'Of that, reading samples.', (totals) => totals.dataSeconds],
  ['job_compute_seconds_total', 'Of that, forward and backward.', (totals) => totals.computeSeconds],
  ['job_reduce_seconds_total', 'Of that, until the own segments were reduced.', (totals) => totals.reduceSeconds],
  ['job_gather_seconds_total', 'Of that, fetching the other segments.', (totals) => totals.gatherSeconds],
  ['job_apply_seconds_total', 'Of that, the optimizer.', (totals) => totals.applySeconds],
  ['job_pulled_bytes_total', 'Gradient that the reporting worker pulled.', (totals) => totals.pulledBytes],
  ['job_generations_started_total', 'Generations that were started.', (totals) => totals.generations],
  ['job_workers_lost_total', 'Workers that were lost.', (totals) => totals.workersLost],
  ['job_pauses_total', 'Pauses of training for a change of membership.', (totals) => totals.pauses],
  ['job_pause_seconds_total', 'Length of those pauses.', (totals) => totals.pauseSeconds],
  ['job_checkpoints_total', 'Checkpoints that were published.', (totals) => totals.checkpoints],
  ['job_checkpoint_bytes_total', 'Bytes of those checkpoints.', (totals) => totals.checkpointBytes],
  ['job_checkpoint_seconds_total', 'From the first snapshot to the publication.', (totals) => totals.checkpointSeconds],
  ['job_checkpoint_failures_total', 'Saves that failed or were skipped.', (totals) => totals.checkpointFailures],
];

const JOB_GAUGES: readonly (readonly [string, string, (run: JobRun) => number])[] = [
  [
    'job_committed_steps',
    'Steps that are committed, over the whole life of the job.',
    (run) => run.record.progress.committed,
  ],
  ['job_planned_steps', 'Steps of the whole job; 0 until the data set is known.', totalSteps],
  ['job_loss', 'Loss of the newest step.', (run) => run.record.progress.loss ?? Number.NaN],
  ['job_generation', 'Number of the newest generation.', (run) => run.lastRecord?.generation ?? 0],
  ['job_workers', 'Workers of the newest generation.', (run) => run.lastRecord?.roster.length ?? 0],
  [
    'job_queued_worker_seconds',
    'Its minimum of workers, times the seconds in which it had none.',
    (run) => run.spent.queuedSeconds,
  ],
  ['job_samples_lost', 'Samples that were used in no step, by the audit.', (run) => run.record.progress.samplesLost],
  ['job_samples_repeated', 'Samples that were used twice, by the audit.', (run) => run.record.progress.samplesRepeated],
];

function jobMetrics(input: MetricsInput): readonly Metric[] {
  const runs = shownJobs(input);
  const labels = ({ record }: JobRun) => ({ job: record.job, name: record.spec.name });
  const gauges = JOB_GAUGES.map(([name, help, read]) =>
    gauge(
      name,
      help,
      runs.map((run) => ({ labels: labels(run), value: read(run) })),
    ),
  );
  const counters = JOB_COUNTERS.map(([name, help, read]): Metric => {
    const samples = runs.flatMap((run) => {
      const history = input.histories.of(run.record.job);
      return history === undefined ? [] : [{ labels: labels(run), value: read(history.totals) }];
    });
    return { name: `lockstep_${name}`, type: 'counter', help, samples };
  });
  const seconds = runs.flatMap((run) =>
    classesOf(run.spent).map((share) => ({ labels: { ...labels(run), class: share.name }, value: share.seconds })),
  );
  const help = 'Where the worker-seconds of the job went, over its whole life.';
  return [...gauges, gauge('job_worker_seconds', help, seconds), lastStep(input, runs), ...counters];
}

function lastStep({ histories }: MetricsInput, runs: readonly JobRun[]): Metric {
  const samples = runs.flatMap(({ record }) => {
    const history = histories.of(record.job);
    if (history === undefined || history.totals.steps === 0) return [];
    return [{ labels: { job: record.job, name: record.spec.name }, value: history.totals.lastStepSeconds }];
  });
  return gauge('job_last_step_seconds', 'Time of the newest step.', samples);
}

/** Open jobs, and those that have ended a moment ago; if they are too many, those that wait give way. */
function shownJobs({ state, histories, wallMs }: MetricsInput): readonly JobRun[] {
  const shown = [...state.jobs.values()].filter(
    (run) => !isTerminal(run.record.state) || wallMs - (histories.of(run.record.job)?.touchedMs ?? 0) < ENDED_JOBS_MS,
  );
  const waits = ({ record }: JobRun): boolean => record.state === 'queued';
  return [...shown.filter(waits), ...shown.filter((run) => !waits(run))].slice(-MAX_JOBS);
}
