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
import { buildPackage, Client, install, type Shown, until } from './installed.js';
import { Machine, newSharedFolder } from './machine.js';

const WATCHDOG_SECONDS = 3;
const STEPS = 1200;
const JOB_MS = 240_000;
const UP_MS = 30_000;
const WORKERS = ['lockstep-worker', 'lockstep-worker@2'];
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
  for (const unit of ['lockstep-coordinator', ...WORKERS]) {
    await machine.write(
      `/etc/systemd/system/${unit}.service.d/test.conf`,
      `[Service]\nWatchdogSec=${WATCHDOG_SECONDS}\n`,
    );
  }
  const engine = { user: 'lockstep-engine', file_max: '2MiB', scratch_max: '6MiB' };
  const etcd = { endpoints: ['http://127.0.0.1:2379'] };
  await machine.write('/etc/lockstep/worker.yaml', stringify({ name: 'w1', listen: '127.0.0.1:7001', etcd, engine }));
  await machine.write('/etc/lockstep/worker@2.yaml', stringify({ name: 'w2', listen: '127.0.0.1:7002', etcd, engine }));
  await machine.write('/etc/lockstep/tls/worker/key.pem', 'the key of the machine');
  await machine.must('chmod', '600', '/etc/lockstep/tls/worker/key.pem');
  await machine.must('systemctl', 'daemon-reload');
  await machine.must('systemctl', 'start', 'lockstep-etcd', 'lockstep-coordinator', ...WORKERS);
  client = new Client(machine, '127.0.0.1:7000');
  await until('both workers', UP_MS, async () => (await client.workers()).join() === 'w1,w2');
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

/** Waits for the daemon that the service manager starts in the place of this one. */
async function untilAgain(unit: string, before: number): Promise<void> {
  await until(`another ${unit}`, UP_MS, async () => {
    const pid = await machine.mainPid(unit);
    return pid !== 0 && pid !== before && (await machine.show(unit, 'ActiveState')) === 'active';
  });
}

/** Undisturbed. */
async function digest(): Promise<string | undefined> {
  const job = await client.submit(lineJob({ pause: 0, name: 'calm' }), '/var/lib/lockstep/calm/model');
  const end = await client.untilEnd(job, JOB_MS);
  expect(end.state).toBe('finished');
  return end.weights_digest;
}

it('the daemons say that they are ready, and who they are', async () => {
  expect(await machine.show('lockstep-coordinator', 'StatusText')).toBe('coordinator one at 127.0.0.1:7000');
  expect(await machine.show('lockstep-worker', 'StatusText')).toBe('worker w1 at 127.0.0.1:7001');
  expect(await machine.show('lockstep-worker', 'User')).toBe('lockstep-worker');
});

it('a job survives frozen daemons, SIGKILL, a stop that drains and a restart of everything, with its digest', async () => {
  const expected = await digest();
  const job = await client.submit(lineJob({ pause: 0.02, name: 'line' }), '/var/lib/lockstep/line/model');
  let now = await client.untilStep(job, 20);
  const on = async (): Promise<Shown> => {
    now = await client.untilStep(job, (now.committed ?? 0) + 20);
    return now;
  };

  // Both engines are in control groups of their own, below those of their units; each worker has opened the other's memory.
  for (const unit of WORKERS) {
    const group = `/sys/fs/cgroup/lockstep.slice/${unit}.service`;
    const engines = await machine.must('sh', '-c', `cat ${group}/engine-*/cgroup.procs`);
    expect(engines.trim().split('\n')).toHaveLength(2); // The engine, and the helper that its task has started.
    const descriptors = await machine.must('sh', '-c', `ls -l /proc/${await machine.mainPid(unit)}/fd`);
    expect(descriptors.match(/memfd:lockstep-exchange/g)).toHaveLength(2);
  }

  // Frozen.
  const frozen = await machine.mainPid('lockstep-worker');
  await machine.must('kill', '-STOP', String(frozen));
  await untilAgain('lockstep-worker', frozen);
  expect(await restarts('lockstep-worker')).toBe(1);
  expect(await machine.journal('lockstep-worker')).toContain('Watchdog timeout');
  await until('w1 again', UP_MS, async () => (await client.workers()).join() === 'w1,w2');
  await on();

  const leader = await machine.mainPid('lockstep-coordinator');
  await machine.must('kill', '-STOP', String(leader));
  await untilAgain('lockstep-coordinator', leader);
  expect(await restarts('lockstep-coordinator')).toBe(1);
  await on();

  // Killed.
  const killed = await machine.mainPid('lockstep-worker@2');
  await machine.must('kill', '-KILL', String(killed));
  await untilAgain('lockstep-worker@2', killed);
  await on();

  // Stopped: it hands over, and nothing of it is left.
  await machine.must('systemctl', 'stop', 'lockstep-worker');
  expect(await machine.show('lockstep-worker', 'Result')).toBe('success');
  expect((await machine.run('ls', '/sys/fs/cgroup/lockstep.slice/lockstep-worker.service')).code).not.toBe(0);
  expect((await machine.run('ls', '/run/lockstep-worker')).code).not.toBe(0);
  expect(await machine.must('ls', '-A', '/var/cache/lockstep-worker')).toBe('');
  expect(await client.workers()).toEqual(['w2']);
  await on();
  await machine.must('systemctl', 'start', 'lockstep-worker');
  await until('w1 again', UP_MS, async () => (await client.workers()).join() === 'w1,w2');

  for (const unit of ['lockstep-etcd', 'lockstep-coordinator', 'lockstep-worker', 'lockstep-worker@2']) {
    await machine.must('systemctl', 'restart', unit);
    await until('both workers', UP_MS, async () => (await client.workers()).join() === 'w1,w2');
    await on();
  }
  const end = await client.untilEnd(job, JOB_MS);
  expect(end).toMatchObject({ state: 'finished', weights_digest: expected });
  const { out } = await client.lockstep('audit', job, '--json');
  expect(out).toContain('"samples_lost":0,"samples_repeated":0');
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

it('an upgrade restarts what runs; the package removed leaves no process, no unit and no key', async () => {
  const before = await machine.mainPid('lockstep-worker');
  const [deb = ''] = readdirSync(join(shared, 'package'));
  await install(machine, join(shared, 'package', deb));
  await untilAgain('lockstep-worker', before);
  await machine.must('dpkg', '--purge', 'lockstep');
  expect((await machine.run('pgrep', '-f', 'lockstep-(worker|coordinator)|lockstep.engine|bin/etcd')).code).toBe(1);
  for (const path of ['/etc/lockstep', '/usr/lib/lockstep', '/var/cache/lockstep-worker', '/run/lockstep-worker']) {
    expect((await machine.run('ls', path)).code, path).not.toBe(0);
  }
  expect(await machine.must('sh', '-c', 'ls -A /dev/shm')).toBe('');
  expect(await machine.must('ls', '/var/lib/lockstep')).toContain('line');
});
