/**
 * Three machines on a network, each installed from the package: etcd of three members, three coordinators, three workers. One is cut off
 * and comes back, and everything is restarted, while a job trains. Needs root.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { Network } from '../faults/network.js';
import { jobFolder, ownTask } from '../system/job_folder.js';
import { buildPackage, Client, install, type Shown, until } from './installed.js';
import { Machine, newSharedFolder } from './machine.js';

const NAMES = ['m1', 'm2', 'm3'] as const;
const STEPS = 1500;
const UP_MS = 60_000;
const JOB_MS = 300_000;
const ROLES = ['etcd', 'coordinator', 'worker'] as const;

const shared = newSharedFolder();
const machines = new Map<string, Machine>();
let network: Network;
let client: Client;

function address(name: string, port: number): string {
  return `${network.host(name).address}:${port}`;
}

function etcdConfig(name: string): string {
  const peer = (one: string) => `http://${address(one, 2380)}`;
  return stringify({
    name,
    'data-dir': '/var/lib/lockstep-etcd',
    'listen-client-urls': `http://${address(name, 2379)}`,
    'advertise-client-urls': `http://${address(name, 2379)}`,
    'listen-peer-urls': peer(name),
    'initial-advertise-peer-urls': peer(name),
    'initial-cluster': NAMES.map((one) => `${one}=${peer(one)}`).join(),
    'initial-cluster-token': 'lockstep',
    'initial-cluster-state': 'new',
    logger: 'zap',
    'log-level': 'warn',
  });
}

async function configure(machine: Machine, name: string): Promise<void> {
  const etcd = { endpoints: NAMES.map((one) => `http://${address(one, 2379)}`) };
  await machine.write('/etc/lockstep/etcd.yaml', etcdConfig(name));
  await machine.write('/etc/lockstep/coordinator.yaml', stringify({ listen: address(name, 7000), etcd }));
  const engine = { user: 'lockstep-engine', scratch_max: '1GiB' };
  await machine.write('/etc/lockstep/worker.yaml', stringify({ listen: address(name, 7001), etcd, engine }));
}

beforeAll(async () => {
  network = new Network();
  const deb = buildPackage(join(shared, 'package'));
  for (const name of NAMES) {
    const { namespace } = network.addHost(name);
    const machine = await Machine.boot({ name, shared, network: namespace });
    machines.set(name, machine);
    await install(machine, deb);
  }
  for (const [name, machine] of machines) await configure(machine, name);
  // etcd is ready when a majority is.
  await Promise.all([...machines.values()].map((machine) => machine.must('systemctl', 'start', 'lockstep-etcd')));
  for (const machine of machines.values()) {
    await machine.must('systemctl', 'start', 'lockstep-coordinator', 'lockstep-worker');
  }
  const first = machines.get('m1');
  if (first === undefined) throw new Error('there is no m1');
  client = new Client(first, NAMES.map((name) => address(name, 7000)).join());
  await allWorkers();
});
afterAll(async () => {
  for (const machine of machines.values()) await machine.close();
  network?.close();
  rmSync(shared, { recursive: true, force: true });
});
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  for (const machine of machines.values()) {
    console.error((await machine.run('journalctl', '--no-pager', '-o', 'short-precise')).out.slice(-10_000));
  }
});

async function allWorkers(): Promise<void> {
  await until('all workers', UP_MS, async () => (await client.workers()).join() === NAMES.join());
}

it('a job goes on while a machine is cut off and comes back, and while everything is restarted; no step is lost', async () => {
  const line = jobFolder(join(shared, 'line'), [ownTask('line')]);
  const job = { task: 'line.py:Line', steps: STEPS, batch: 12, microbatches: 6 };
  const calm = await client.submit(line({ ...job, name: 'calm' }), '/var/lib/lockstep/calm/model');
  const undisturbed = await client.untilEnd(calm, JOB_MS);
  expect(undisturbed.state).toBe('finished');

  const id = await client.submit(
    line({ ...job, name: 'line', params: { pause: 0.02 } }),
    '/var/lib/lockstep/line/model',
  );
  let now: Shown = await client.untilStep(id, 20);
  const goesOn = async (): Promise<void> => {
    now = await client.untilStep(id, (now.committed ?? 0) + 20);
    expect(now.state).toBe('running');
  };
  const withWorkers = (workers: string) =>
    until(`the workers ${workers}`, UP_MS, async () => {
      const shown = await client.show(id);
      return shown?.workers?.slice().sort().join() === workers;
    });
  await withWorkers('m1,m2,m3');
  await goesOn();

  network.setLink('m3', 'down');
  await withWorkers('m1,m2');
  await goesOn();
  network.setLink('m3', 'up');
  await withWorkers('m1,m2,m3');
  await goesOn();

  for (const machine of machines.values()) {
    for (const role of ROLES) {
      await machine.must('systemctl', 'restart', `lockstep-${role}`);
      await withWorkers('m1,m2,m3');
      await goesOn();
    }
  }
  const end = await client.untilEnd(id, JOB_MS);
  expect(end).toMatchObject({ state: 'finished', weights_digest: undisturbed.weights_digest });
  expect((await client.lockstep('audit', id, '--json')).out).toContain(`"samples_lost":0,"samples_repeated":0`);
  // Nothing was taken up again from a checkpoint, and every step was made once.
  const events = (await client.lockstep('events', id, '--json')).out.split('\n').filter(Boolean);
  const steps = events.flatMap((line) => /"event":"step_committed".*"step":(\d+)/.exec(line)?.[1] ?? []).map(Number);
  expect(steps).toEqual(steps.map((_, index) => (steps[0] ?? 0) + index));
  expect(steps.at(-1)).toBe(STEPS - 1);
  for (const [name, machine] of machines) expect(await machine.show('lockstep-worker', 'NRestarts'), name).toBe('0');
});
