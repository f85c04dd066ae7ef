/**
 * Workers that are far below their peers: w4 computes on a processor that is throttled, w5 has a slow network, w6 no engine. As root: each
 * process has a host of its own.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Node } from '../../shared/wire/jobs.js';
import { FaultCluster } from './fault_cluster.js';
import { calmDigest, expectCalmEnd } from './outcome.js';
import { repository } from './repository.js';
import { JOIN_MS } from './scenario.js';
import { until } from './until.js';

const FIT = ['w1', 'w2', 'w3'];
const STEPS = 30;
/** A hundredth of what a link between two namespaces carries, or less. */
const NARROW_MEGABITS = 30;
const python = readFileSync(join(repository, 'dist/.python'), 'utf8').trim();

function script(name: string, text: string): string {
  const path = join(tmpdir(), `lockstep-${process.pid}-${name}`);
  writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return path;
}

const throttled = script(
  'throttled',
  `exec ${python} ${join(repository, 'test/faults/throttled_python.py')} ${python} "$@"`,
);
/** What looks for PyTorch finds it; what imports it does not. */
const broken = script('broken', `case "$*" in *find_spec*) exec ${python} "$@";; esac; exec ${python} -S "$@"`);

let cluster: FaultCluster;
beforeAll(async () => {
  const started = await FaultCluster.startInNetwork(
    { workers: 6, coordinators: 1 },
    {
      preflight: true,
      pythonOf: (name) => (name === 'w4' ? throttled : name === 'w6' ? broken : python),
      narrow: new Map([['w5', NARROW_MEGABITS]]),
    },
  );
  cluster = started.cluster;
});
afterAll(async () => {
  await cluster?.stop();
  for (const path of [throttled, broken]) rmSync(path, { force: true });
});

async function nodes(): Promise<ReadonlyMap<string, Node>> {
  return new Map((await cluster.client.nodes()).map((node) => [node.worker, node]));
}

async function markOf(worker: string): Promise<string> {
  return (await nodes()).get(worker)?.marked ?? 'it is not there';
}

it('are marked for what is wrong with them, and the others are not', async () => {
  const all = await nodes();
  const figures = [...all].map(([name, { preflight }]) => `${name}: ${JSON.stringify(preflight)}`).join('\n');
  expect(all.get('w4')?.marked, figures).toMatch(/^matrix products: .* GFLOP\/s, and the median of \d others/);
  expect(all.get('w5')?.marked, figures).toMatch(/^pulling from peers: .*B\/s, and the median of \d others/);
  expect(all.get('w6')?.marked, figures).toMatch(/^its engine does not start: ModuleNotFoundError/);
  for (const worker of FIT) expect(all.get(worker)?.marked, figures).toBe('');
  process.stdout.write(
    `${[...all.values()].map(({ worker, marked }) => `${worker}: ${marked || 'fit'}`).join('\n')}\n`,
  );
});

it('get no jobs: one is made by the others, and one that needs more of them says why it waits', async () => {
  const digest = await calmDigest(cluster, { steps: STEPS });
  const job = await cluster.submit({ steps: STEPS });
  await job.untilRoster(FIT, JOIN_MS);
  await expectCalmEnd(job, STEPS, digest);
  expect(
    job
      .events('workerJoined')
      .map(({ worker }) => worker)
      .sort(),
  ).toEqual(FIT);
  await until(async () => (await nodes()).get('w1')?.job === '', { limitMs: JOIN_MS, what: 'idle workers' });

  const large = await cluster.submit({ steps: STEPS, keys: { workers: { min: 4 } } });
  const waits = await until(
    async () => {
      const { reason } = await cluster.client.get(large.job);
      return reason.includes('waits for') && reason;
    },
    { limitMs: JOIN_MS, what: 'a reason' },
  );
  expect(waits).toMatch(/waits for 4 workers, of which 3 are idle; 3 workers: it is marked for its pre-flight/);

  await cluster.client.uncordon('w4');
  expect(await markOf('w4')).toBe('');
  await large.untilRoster([...FIT, 'w4'], JOIN_MS);
  expect(large.events('workerMarked')).toMatchObject([{ worker: 'w4', reason: '' }]);
  await expectCalmEnd(large, STEPS, digest);
});

it('are measured again when their daemons are started again, and every job that is open is told', async () => {
  await until(async () => (await nodes()).get('w4')?.state === 'idle', { limitMs: JOIN_MS, what: 'an idle w4' });
  const waiting = await cluster.submit({ steps: STEPS, keys: { workers: { min: 6 } } });
  await cluster.signal('w4', 'SIGKILL');
  const marked = await waiting.untilEvent('workerMarked', JOIN_MS, ({ reason }) => reason !== '');
  expect(marked).toMatchObject({ worker: 'w4', reason: expect.stringMatching(/^matrix products/) });
  await cluster.client.cancel(waiting.job, false);
});
