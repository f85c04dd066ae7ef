import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import { Histories } from '../../../coordinator/web/histories.js';
import { metricsText } from '../../../coordinator/web/metrics.js';
import { textOf } from '../../../coordinator/web/metrics_text.js';
import { addJob, addStep, addWorker, leadingState } from './known_jobs.js';

const fileOf = (path: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8');

function scrape(): string {
  const state = leadingState(7);
  const histories = new Histories();
  addWorker(state, 'w1', 'a');
  for (const name of ['w2', 'w3', 'w4']) addWorker(state, name);
  for (const worker of ['w2', 'gone']) state.nodes.set(worker, { worker, cordoned: 'new fan' });
  state.nodes.set('w3', { worker: 'w3', cordoned: '' });
  const known = { incarnation: 'w4#1', report: undefined, sinceMs: 0, judged: true, goneMs: undefined };
  state.preflights.set('w4', { ...known, marked: 'slow' });
  const [w1, w2] = ['w1', 'w2'].map((name) => state.workers.get(name));
  if (w1 === undefined || w2 === undefined) throw new Error('the workers are there');
  const device = { usedBytes: 3e9, totalBytes: 8e10 };
  Object.assign(w1, { engineUsage: { memoryBytes: 2e9, cores: 1.25, device }, hostUsedBytes: 5e8 });
  Object.assign(w2, { engineUsage: { memoryBytes: 1e9, cores: 0.5 } });
  const run = addJob(state, 'a');
  addStep(run, 0);
  addStep(run, 1);
  histories.read(run, state.jobs);
  run.spent = { ...NOTHING_SPENT, workerSeconds: 3, computeSeconds: 2, waitingSeconds: 1, queuedSeconds: 4 };
  state.cluster = { ...state.cluster, jobs: run.spent, unused: { ...state.cluster.unused, idleSeconds: 5 } };
  return metricsText({ state, histories, wallMs: 1, loopDelaySeconds: 0.001, viewers: 2, laggingViewers: 1 });
}

const namesIn = (text: string): ReadonlySet<string> => new Set(text.match(/\blockstep_[a-z_]+/g));

it('says what happened, in the units of the names', () => {
  const text = scrape();
  for (const line of [
    'lockstep_leader 1',
    'lockstep_term 7',
    'lockstep_workers{state="loading"} 1',
    'lockstep_workers{state="idle"} 3',
    'lockstep_workers{state="leaving"} 0',
    'lockstep_workers_cordoned 1',
    'lockstep_workers_marked 1',
    'lockstep_job_steps_total{job="a",name="x"} 2',
    'lockstep_job_samples_total{job="a",name="x"} 8',
    'lockstep_job_step_seconds_total{job="a",name="x"} 0.02',
    'lockstep_job_data_seconds_total{job="a",name="x"} 0.001',
    'lockstep_job_compute_seconds_total{job="a",name="x"} 0.011',
    'lockstep_job_reduce_seconds_total{job="a",name="x"} 0.0035',
    'lockstep_job_gather_seconds_total{job="a",name="x"} 0.0005',
    'lockstep_job_loss{job="a",name="x"} 0.5',
    'lockstep_worker_engine_cores{worker="w1",host="h"} 1.25',
    'lockstep_worker_engine_memory_bytes{worker="w2",host="h"} 1000000000',
    'lockstep_worker_gpu_memory_used_bytes{worker="w1",host="h"} 3000000000',
    'lockstep_worker_gpu_memory_bytes{worker="w1",host="h"} 80000000000',
    'lockstep_worker_host_memory_used_bytes{worker="w1",host="h"} 500000000',
    'lockstep_worker_host_memory_bytes{worker="w3",host="h"} 1073741824',
    'lockstep_cluster_worker_seconds{class="compute"} 2',
    'lockstep_cluster_worker_seconds{class="idle"} 5',
    'lockstep_cluster_queued_worker_seconds 4',
    'lockstep_price_per_worker_hour 0',
    'lockstep_job_worker_seconds{job="a",name="x",class="waiting"} 1',
    'lockstep_job_queued_worker_seconds{job="a",name="x"} 4',
    'lockstep_job_planned_steps{job="a",name="x"} 1000000',
  ]) {
    expect(text.split('\n')).toContain(line);
  }
});

it('says nothing of what is not known of a worker', () => {
  const text = scrape();
  expect(text).not.toContain('lockstep_worker_engine_cores{worker="w3"');
  expect(text).not.toContain('lockstep_worker_gpu_memory_bytes{worker="w2"');
  expect(text).not.toContain('lockstep_worker_host_memory_used_bytes{worker="w2"');
});

it('every line is one that Prometheus reads', () => {
  for (const line of scrape().trimEnd().split('\n')) {
    expect(line).toMatch(
      /^(# (HELP|TYPE) lockstep_\w+ .+|lockstep_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? (-?[\d.e+-]+|NaN|[+-]Inf))$/,
    );
  }
});

it('labels cannot break out of their quotes', () => {
  const metric = {
    name: 'm',
    type: 'gauge',
    help: 'a\nb',
    samples: [{ labels: { job: 'a"b\\c\nd' }, value: 1 }],
  } as const;
  expect(textOf([metric])).toBe('# HELP m a\\nb\n# TYPE m gauge\nm{job="a\\"b\\\\c\\nd"} 1\n');
});

it('of more open jobs than are shown, those that run are', () => {
  const state = leadingState();
  addJob(state, 'trains');
  for (let number = 0; number < 300; number++) {
    const run = addJob(state, `waits-${number}`);
    run.record = { ...run.record, state: 'queued' };
  }
  const text = metricsText({
    state,
    histories: new Histories(),
    wallMs: 1,
    loopDelaySeconds: 0,
    viewers: 0,
    laggingViewers: 0,
  });
  expect(text).toContain('lockstep_job_committed_steps{job="trains",name="x"} 0');
  expect(text.match(/^lockstep_job_committed_steps\{/gm)).toHaveLength(200);
});

it('docs/metrics.md has Prometheus keep the label job, which is one of its own too', () => {
  expect(scrape()).toContain('{job="a",');
  expect(fileOf('docs/metrics.md')).toMatch(/job_name: lockstep\n +honor_labels: true/);
});

it('docs/metrics.md describes exactly the names that are there', () => {
  expect([...namesIn(fileOf('docs/metrics.md'))].sort()).toEqual([...namesIn(scrape())].sort());
});

it('the Grafana dashboard sees in what it says of an hour that worker-seconds begin anew with a term', () => {
  const hours = fileOf('deploy/grafana_dashboard.json').match(/"expr": ".*lockstep_cluster_worker_seconds.*\[1h.*"/g);
  expect(hours).toHaveLength(2);
  for (const expression of hours ?? []) {
    expect(expression).not.toContain('delta(');
    expect(expression).toContain('increase((sum by (instance) (lockstep_cluster_worker_seconds))[1h:])');
  }
});

it('the Grafana dashboard uses no other names', () => {
  const known = namesIn(scrape());
  const used = namesIn(fileOf('deploy/grafana_dashboard.json'));
  expect(used.size).toBeGreaterThan(10);
  for (const name of used) expect(known).toContain(name);
  for (const [, name, label] of fileOf('deploy/grafana_dashboard.json').matchAll(/(lockstep_\w+)\{(\w+=\\"\w+)\\"/g)) {
    expect(scrape()).toContain(`${name}{${label?.replace('\\', '')}"`);
  }
});
