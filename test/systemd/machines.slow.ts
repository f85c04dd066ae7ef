/**
 * Three machines on a network, set up from the package as docs/operations.md says, with certificates on every connection: etcd of three
 * members, three coordinators, three workers. One is cut off and comes back, and everything is restarted with new certificates, while a job
 * trains. Needs root.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { z } from 'zod';
import { exitCodes } from '../../cli/exit_codes.js';
import { Network } from '../faults/network.js';
import { jobFolder, ownTask } from '../system/job_folder.js';
import { buildPackage, Client, install, type Shown, shown, until } from './installed.js';
import { Machine, newSharedFolder } from './machine.js';

const NAMES = ['m1', 'm2', 'm3'] as const;
const STEPS = 2000;
const UP_MS = 60_000;
const JOB_MS = 300_000;
const SET_UP_MS = 180_000;
const ROLES = ['etcd', 'coordinator', 'worker'] as const;

/** Ends with 1 when the other end refuses the certificate, and with STAYS_OPEN when it waits for what comes next. */
const GREET =
  'sleep 4 | timeout 2 openssl s_client -quiet -alpn h2 -connect "$1" -cert "$2/cert.pem" -key "$2/key.pem"';
const STAYS_OPEN = 124;
const DASHBOARD = '127.0.0.1:7081';
/** Prints the status of the answer. */
const ASK =
  "fetch('http://' + process.argv[1], {headers: {authorization: process.argv[2]}}).then(({status}) => console.log(status))";
/** That joins with a token. */
const NEW = 'm3';

const shared = newSharedFolder();
const machines = new Map<string, Machine>();
const authority = join(shared, 'lockstep-certs');
let network: Network;
let client: Client;
let token = '';
let tokenLine = '';

function address(name: string, port: number): string {
  return `${network.host(name).address}:${port}`;
}

function machineOf(name: string): Machine {
  const machine = machines.get(name);
  if (machine === undefined) throw new Error(`there is no ${name}`);
  return machine;
}

function etcdConfig(name: string): string {
  const peer = (one: string) => `https://${address(one, 2380)}`;
  const loaded = '/run/credentials/lockstep-etcd.service';
  const security = {
    'trusted-ca-file': `${loaded}/tls_ca.pem`,
    'cert-file': `${loaded}/tls_cert.pem`,
    'key-file': `${loaded}/tls_key.pem`,
    'client-cert-auth': true,
  };
  return stringify({
    name,
    'data-dir': '/var/lib/lockstep-etcd',
    'listen-client-urls': `https://${address(name, 2379)}`,
    'advertise-client-urls': `https://${address(name, 2379)}`,
    'listen-peer-urls': peer(name),
    'initial-advertise-peer-urls': peer(name),
    'initial-cluster': NAMES.map((one) => `${one}=${peer(one)}`).join(),
    'initial-cluster-token': 'lockstep',
    'initial-cluster-state': 'new',
    'client-transport-security': security,
    'peer-transport-security': security,
    logger: 'zap',
    'log-level': 'warn',
  });
}

const etcdEndpoints = () => NAMES.map((one) => `https://${address(one, 2379)}`);

async function configure(machine: Machine, name: string): Promise<void> {
  const etcd = { endpoints: etcdEndpoints() };
  const tls = { ca: 'tls_ca.pem', certificate: 'tls_cert.pem', key: 'tls_key.pem' };
  const joining = name === 'm1' ? { join_listen: address(name, 7002) } : {};
  const coordinatorTls = name === 'm1' ? { ...tls, ca_key: 'tls_ca.key' } : tls;
  const dashboard = { listen: DASHBOARD, tokens: '/etc/lockstep/tokens' };
  const coordinator = { listen: address(name, 7000), dashboard, etcd, tls: coordinatorTls, ...joining };
  await machine.write(dashboard.tokens, tokenLine);
  await machine.write('/etc/lockstep/etcd.yaml', etcdConfig(name));
  await machine.write('/etc/lockstep/coordinator.yaml', stringify(coordinator));
  const engine = { user: 'lockstep-engine', scratch_max: '1GiB' };
  await machine.write('/etc/lockstep/worker.yaml', stringify({ listen: address(name, 7001), etcd, tls, engine }));
}

async function certificate(machine: Machine, role: (typeof ROLES)[number], name: string): Promise<void> {
  const reached = role === 'etcd' ? ['--address', network.host(name).address] : [];
  await machineOf('m1').must('lockstep', 'certs', role, name, ...reached, '--dir', authority);
  await installFiles(machine, role, ['ca.pem', 'cert.pem', 'key.pem'], join(authority, `${role}-${name}`));
}

async function installFiles(machine: Machine, role: string, files: readonly string[], from: string): Promise<void> {
  const paths = files.map((file) => join(from, file));
  await machine.must('install', '-m', '600', ...paths, `/etc/lockstep/tls/${role}/`);
}

/** The administrator, who asks these coordinators. */
function ada(names: readonly string[]): Client {
  const server = names.map((name) => address(name, 7000)).join();
  return new Client(machineOf('m1'), server, join(authority, 'user-ada'));
}

/** Its key never leaves the machine. If it has a certificate already, that is renewed. */
async function joinWithToken(name: string): Promise<void> {
  const made = await ada(['m1']).lockstep('certs', 'token', name, '--json');
  expect(made.code, made.err).toBe(0);
  const { token, address: server } = z.object({ token: z.string(), address: z.string() }).parse(JSON.parse(made.out));
  const to = ['--server', server, '--token', token, '--dir', '/etc/lockstep/tls/worker'];
  await machineOf(name).must('lockstep', 'certs', 'join', ...to);
}

async function renewCertificate(machine: Machine, role: (typeof ROLES)[number], name: string): Promise<void> {
  if (role === 'worker' && name === NEW) return joinWithToken(name);
  const folder = join(authority, `${role}-${name}`);
  await machineOf('m1').must('lockstep', 'certs', 'renew', folder, '--dir', authority);
  await installFiles(machine, role, ['cert.pem'], folder);
}

/** Whether the unit has loaded the certificate that lies there. */
async function hasNewest(machine: Machine, role: string): Promise<boolean> {
  const [there, loaded] = [
    `/etc/lockstep/tls/${role}/cert.pem`,
    `/run/credentials/lockstep-${role}.service/tls_cert.pem`,
  ];
  return (await machine.run('cmp', there, loaded)).code === 0;
}

async function start(unit: string, names: readonly string[]): Promise<void> {
  await Promise.all(names.map((name) => machineOf(name).must('systemctl', 'start', unit)));
}

beforeAll(async () => {
  try {
    await setUp();
  } catch (error) {
    await showJournals();
    throw error;
  }
}, SET_UP_MS);
afterAll(async () => {
  for (const machine of machines.values()) await machine.close();
  network?.close();
  rmSync(shared, { recursive: true, force: true });
});
async function setUp(): Promise<void> {
  network = new Network();
  const deb = buildPackage(join(shared, 'package'));
  for (const name of NAMES) {
    const { namespace } = network.addHost(name);
    const machine = await Machine.boot({ name, shared, network: namespace });
    machines.set(name, machine);
    await install(machine, deb);
  }
  const first = machineOf('m1');
  await first.must('lockstep', 'certs', 'init', authority);
  await first.must('lockstep', 'certs', 'user', 'ada', '--role', 'admin', '--dir', authority);
  await installFiles(first, 'coordinator', ['ca.key'], authority);
  const made = await first.must('lockstep', 'token', 'ada', '--role', 'admin', '--json');
  ({ token, line: tokenLine } = z.object({ token: z.string(), line: z.string() }).parse(JSON.parse(made)));
  for (const [name, machine] of machines) {
    await configure(machine, name);
    for (const role of ROLES) {
      if (role !== 'worker' || name !== NEW) await certificate(machine, role, name);
    }
    await machine.must('lockstep-coordinator', '--check-config');
  }
  // etcd is ready when a majority is.
  await start('lockstep-etcd', NAMES);
  await start('lockstep-coordinator', NAMES);
  client = ada(NAMES);
  await until('a coordinator that leads', UP_MS, async () => (await client.lockstep('nodes')).code === 0);
  await joinWithToken(NEW);
  await start('lockstep-worker', NAMES);
  await allWorkers();
}

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await showJournals();
});

async function showJournals(): Promise<void> {
  for (const machine of machines.values()) {
    // etcd says so much of a member that is cut off that nothing else would be seen.
    const units = ROLES.filter((role) => role !== 'etcd').flatMap((role) => ['-u', `lockstep-${role}`]);
    console.error((await machine.run('journalctl', '--no-pager', '-o', 'short-precise', ...units)).out.slice(-40_000));
  }
}

async function allWorkers(): Promise<void> {
  await until('all workers', UP_MS, async () => (await client.workers()).join() === NAMES.join());
}

it('whoever has no certificate is refused, by coordinators, workers and etcd', async () => {
  const [first, outsider] = [machineOf('m1'), join(shared, 'outsider')];
  const bare = await first.run('lockstep', 'nodes', '--server', address('m2', 7000));
  expect(bare.err).toContain('it does not speak without TLS');
  expect(bare.code).toBe(exitCodes.unreachable);
  await first.must('lockstep', 'certs', 'init', outsider);
  await first.must('lockstep', 'certs', 'worker', 'm1', '--dir', outsider);
  for (const port of [7000, 7001, 2379, 2380]) {
    const greet = (folder: string) =>
      first.run('sh', '-c', GREET, 'sh', address('m2', port), join(folder, 'worker-m1'));
    expect((await greet(authority)).code, `port ${port}`).toBe(STAYS_OPEN);
    expect((await greet(outsider)).code, `port ${port}`).toBe(1);
  }
});

it('whoever has no token sees no dashboard, though he is on its machine', async () => {
  const ask = (shown: string) => machineOf('m1').must('node', '-e', ASK, `${DASHBOARD}/metrics`, `Bearer ${shown}`);
  expect(await ask('lockstep_wrong')).toBe('401\n');
  expect(await ask(token)).toBe('200\n');
});

it('a job goes on while a machine is cut off and comes back, and while everything is restarted with new certificates; no step is lost', async () => {
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
  const withWorkers = async (workers: string): Promise<void> => {
    const seen: string[] = [];
    const look = async (): Promise<boolean> => {
      const startMs = performance.now();
      const { code, out, err } = await client.lockstep('job', id, '--json');
      seen.push(`${code} after ${Math.round(performance.now() - startMs)} ms: ${out}${err}`);
      return code === 0 && shown.parse(JSON.parse(out)).workers?.slice().sort().join() === workers;
    };
    await until(`the workers ${workers}`, UP_MS, look).catch((error: unknown) => {
      throw new Error(`${String(error)}; the last answers were\n${seen.slice(-5).join('\n')}`);
    });
  };
  await withWorkers('m1,m2,m3');
  await goesOn();

  network.setLink('m3', 'down');
  await withWorkers('m1,m2');
  await goesOn();
  network.setLink('m3', 'up');
  await withWorkers('m1,m2,m3');
  await goesOn();

  for (const [name, machine] of machines) {
    for (const role of ROLES) {
      await renewCertificate(machine, role, name);
      expect(await hasNewest(machine, role), `${role} of ${name}`).toBe(false);
      await machine.must('systemctl', 'restart', `lockstep-${role}`);
      expect(await hasNewest(machine, role), `${role} of ${name}`).toBe(true);
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
