/**
 * The units as the package installs them, run by a real systemd on a machine of the test's own: everything that the units say about users,
 * capabilities, folders and system calls holds here as it does on a real machine. Needs root.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { jobFolder, ownTask } from '../system/job_folder.js';
import { buildPackage, Client, install, until } from './installed.js';
import { bothWorkers, survivesEverything, untilAgain, WORKERS } from './life.js';
import { Machine, newSharedFolder } from './machine.js';

const WATCHDOG_SECONDS = 3;
/** Less than a drain may take. */
const STOP_SECONDS = 2;
const STEPS = 1200;
const JOB_MS = 240_000;
const KEY = 'the key of the machine';
const UP_MS = 30_000;
const tasks = fileURLToPath(new URL('tasks', import.meta.url));

const shared = newSharedFolder();
let machine: Machine;
let client: Client;
let lineJob: (params: { readonly pause: number; readonly name: string }) => string;
let nosyJob: string;
let greedyJob: string;

beforeAll(async () => {
  const deb = buildPackage(join(shared, 'package'));
  const line = jobFolder(join(shared, 'line'), [ownTask('line')]);
  lineJob = ({ pause, name }) =>
    line({ name, task: 'line.py:Line', steps: STEPS, batch: 12, microbatches: 4, params: { pause, helper: true } });
  const own = jobFolder(join(shared, 'own'), [join(tasks, 'nosy.py'), join(tasks, 'greedy.py')]);
  nosyJob = own({ name: 'nosy', task: 'nosy.py:Nosy', steps: 5, batch: 12, microbatches: 4, workers: { max: 1 } });
  greedyJob = own({ name: 'greedy', task: 'greedy.py:Greedy', steps: 5, batch: 12, microbatches: 4 });
  machine = await Machine.boot({ name: 'one', shared });
  await install(machine, deb);
  const times = `[Service]\nWatchdogSec=${WATCHDOG_SECONDS}\nTimeoutStopSec=${STOP_SECONDS}\n`;
  for (const unit of ['lockstep-coordinator', ...WORKERS]) {
    await machine.write(`/etc/systemd/system/${unit}.service.d/test.conf`, times);
  }
  const engine = { user: 'lockstep-engine', file_max: '2MiB', scratch_max: '6MiB' };
  const etcd = { endpoints: ['http://127.0.0.1:2379'] };
  await machine.write('/etc/lockstep/worker.yaml', stringify({ name: 'w1', listen: '127.0.0.1:7001', etcd, engine }));
  await machine.write('/etc/lockstep/worker@2.yaml', stringify({ name: 'w2', listen: '127.0.0.1:7002', etcd, engine }));
  await machine.write('/etc/lockstep/tls/worker/key.pem', KEY);
  await machine.must('chmod', '600', '/etc/lockstep/tls/worker/key.pem');
  await machine.must('systemctl', 'daemon-reload');
  await machine.must('systemctl', 'start', 'lockstep-etcd', 'lockstep-coordinator', ...WORKERS);
  client = new Client(machine, '127.0.0.1:7000');
  await bothWorkers({ client });
});
afterAll(async () => {
  await machine?.close();
  rmSync(shared, { recursive: true, force: true });
});
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  console.error((await machine.run('journalctl', '--no-pager', '-o', 'short-precise')).out.slice(-20_000));
});

async function restarts(unit: string): Promise<number> {
  return Number(await machine.show(unit, 'NRestarts'));
}

it('the daemons say that they are ready, and who they are', async () => {
  expect(await machine.show('lockstep-coordinator', 'StatusText')).toBe('coordinator one at 127.0.0.1:7000');
  expect(await machine.show('lockstep-worker', 'StatusText')).toBe('worker w1 at 127.0.0.1:7001');
  expect(await machine.show('lockstep-worker', 'User')).toBe('lockstep-worker');
});

it('a daemon has the key of the machine, under the name by which its configuration would look for it', async () => {
  const loaded = '/run/credentials/lockstep-worker.service/tls_key.pem';
  const reader = ['setpriv', '--reuid=lockstep-worker', '--clear-groups', '--regid=lockstep'];
  expect(await machine.must(...reader, 'cat', loaded)).toBe(KEY);
});

it('a job survives frozen daemons, SIGKILL, a stop that drains and a restart of everything, with its digest', async () => {
  const [calm, slow] = [lineJob({ pause: 0, name: 'calm' }), lineJob({ pause: 0.02, name: 'slow' })];
  await survivesEverything({ machine, client, calm, slow, models: '/var/lib/lockstep', delegates: true });
});

it("users' code gets nowhere, and leaves nothing", async () => {
  const job = await client.submit(nosyJob, '/var/lib/lockstep/nosy/model');
  const end = await client.untilEnd(job, JOB_MS);
  const { out } = await client.lockstep('logs', job);
  const said = Object.fromEntries([...out.matchAll(/nosy ([^:]+): (.*)/g)].map(([, what, got]) => [what, got]));
  expect(said).toEqual({
    user: 'False True',
    'key of the machine': 'PermissionError',
    'credential of the daemon': 'PermissionError',
    'list of credentials': 'PermissionError',
    'environment of the daemon': 'FileNotFoundError',
    'memory of the daemon': 'FileNotFoundError',
    'descriptors of the daemon': 'FileNotFoundError',
    'signal to the daemon': 'PermissionError',
    'file in /tmp': 'OSError',
    'file in /var/tmp': 'OSError',
    'file in /etc': 'OSError',
    'file in the code': 'PermissionError',
    'file beside models': 'PermissionError',
    "another engine's folder": 'PermissionError',
    'way out of its group': 'PermissionError',
    root: 'PermissionError',
    'big file': 'OSError',
    'file of its own': 'done',
    'shared memory of its own': 'done',
  });
  expect(end.state).toBe('finished');
  // Its model was taken over from where it could be written.
  expect(await machine.must('stat', '-c', '%U %a', '/var/lib/lockstep/nosy/model/model.safetensors')).toBe(
    'lockstep-worker 640\n',
  );
  await until('the end of what it started', UP_MS, async () => {
    return (await machine.run('pgrep', '-f', 'sleep 4321')).code === 1;
  });
  for (const unit of WORKERS) {
    await until(
      'an empty folder',
      UP_MS,
      async () => (await machine.must('ls', '-A', `/var/cache/${unit}/scratch`)) === '',
    );
    const inside = ['-t', String(await machine.mainPid(unit)), '--mount', 'ls', '-A', '/dev/shm'];
    await until('empty memory', UP_MS, async () => (await machine.must('nsenter', ...inside)) === '');
  }
});

it('a job whose temporary files outgrow their bound fails, and says why', async () => {
  const job = await client.submit(greedyJob, '/var/lib/lockstep/greedy/model');
  const end = await client.untilEnd(job, JOB_MS);
  expect(end.state).toBe('failed');
  expect(end.reason).toMatch(/its temporary files take \d+ bytes; engine\.scratch_max is 6291456/);
});

it('a configuration that is wrong stops a daemon for good, and says why', async () => {
  await machine.write('/etc/lockstep/worker@3.yaml', 'name: w3\nlisen: 127.0.0.1:7003\n');
  expect((await machine.systemctl('start', 'lockstep-worker@3')).code).not.toBe(0);
  await until('the failure', UP_MS, async () => (await machine.show('lockstep-worker@3', 'ActiveState')) === 'failed');
  expect(await machine.show('lockstep-worker@3', 'ExecMainStatus')).toBe('78');
  expect(await restarts('lockstep-worker@3')).toBe(0);
  expect(await machine.journal('lockstep-worker@3')).toContain('did you mean listen?');
});

it('a worker that has nobody to hand over to takes its time, longer than its unit says, and ends in good order', async () => {
  const job = await client.submit(lineJob({ pause: 0.05, name: 'long' }), '/var/lib/lockstep/long/model');
  await client.untilStep(job, 5);
  await machine.must('systemctl', 'stop', 'lockstep-coordinator');
  const beganMs = performance.now();
  await machine.must('systemctl', 'stop', 'lockstep-worker@2');
  expect(performance.now() - beganMs).toBeGreaterThan(STOP_SECONDS * 1000);
  expect(await machine.show('lockstep-worker@2', 'Result')).toBe('success');
  await machine.must('systemctl', 'start', 'lockstep-coordinator', 'lockstep-worker@2');
  await bothWorkers({ client });
  expect((await client.lockstep('cancel', job)).code).toBe(0);
  expect((await client.untilEnd(job, JOB_MS)).state).toBe('cancelled');
});

it('etcd lost with all its data is restored from a backup, and the jobs are there again', async () => {
  const etcdctl = (...args: readonly string[]) => machine.must('env', 'ETCDCTL_API=3', 'etcdctl', ...args);
  const before = await client.jobs();
  expect(before.map(({ state }) => state)).toContain('finished');
  await etcdctl('snapshot', 'save', '/root/snapshot');
  const data = '/var/lib/private/lockstep-etcd';
  const units = ['lockstep-etcd', 'lockstep-coordinator', ...WORKERS];
  await machine.must('systemctl', 'stop', ...units);
  await machine.must('rm', '-rf', data);
  const peer = 'http://127.0.0.1:2380';
  const member = ['--name', 'etcd1', '--initial-cluster', `etcd1=${peer}`, '--initial-advertise-peer-urls', peer];
  await etcdctl('snapshot', 'restore', '/root/snapshot', '--data-dir', data, ...member);
  await machine.must('systemctl', 'start', ...units);
  await bothWorkers({ client });
  expect(await client.jobs()).toEqual(before);
});

it('an upgrade restarts what runs; the package removed leaves no process, no unit and no key', async () => {
  const before = await machine.mainPid('lockstep-worker');
  const [deb = ''] = readdirSync(join(shared, 'package'));
  await install(machine, join(shared, 'package', deb));
  await untilAgain({ machine }, 'lockstep-worker', before);
  await machine.must('systemctl', 'enable', 'lockstep-worker', 'lockstep-worker@2');
  await machine.must('dpkg', '--purge', 'lockstep');
  expect(await machine.must('find', '/etc/systemd/system', '-type', 'l', '-name', 'lockstep-*')).toBe('');
  expect((await machine.run('pgrep', '-f', 'lockstep-(worker|coordinator)|lockstep.engine|bin/etcd')).code).toBe(1);
  for (const path of ['/etc/lockstep', '/usr/lib/lockstep', '/var/cache/lockstep-worker', '/run/lockstep-worker']) {
    expect((await machine.run('ls', path)).code, path).not.toBe(0);
  }
  expect(await machine.must('sh', '-c', 'ls -A /dev/shm')).toBe('');
  expect(await machine.must('ls', '/var/lib/lockstep')).toContain('slow');
});
