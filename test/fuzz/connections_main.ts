/**
 * `npm run test:connections`: 10,000 connections, idle ones and such that speak HTTP/2 and make no call, to a coordinator, its dashboard and
 * three workers beside a job that trains; on some ports more than they take from one address. Training goes on, whoever has business there
 * gets in, no port takes more than it may, all is freed afterwards, and the weights are the same. Prints steps a second without and with
 * them. `--tls`: the ports ask for certificates; some of those who connect have one, and the others never finish their handshake.
 */
import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { until } from '../faults/until.js';
import type { WatchedJob } from '../faults/watched_job.js';
import { type Attackers, makeAttackers } from './attackers.js';
import { letGo, startAttacked, startJob } from './cluster_under_attack.js';
import { Holder, type Target } from './holders.js';
import { command, leave, startNewcomer } from './newcomers.js';
import { type Ports, VitalSigns } from './vital_signs.js';

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '15' },
    tls: { type: 'boolean', default: false },
  },
});
const CHECK_MS = 3_000;
/** That each port takes from one address. */
const LIMITS = { coordinator: 4_096, dashboard: 160, peer: 2_048 };
/** Of all connections: on the coordinator, the dashboard and the first worker more than one address may have, if there are 10,000. */
const SHARES = { coordinator: 0.5, dashboard: 0.05, firstPeer: 0.25 };
const FREE_MS = 30_000;
/** Files that a daemon may have open beside those that it had: a connection of its own that it has opened since. */
const FEW_FILES = 8;

async function stepsPerSecond(job: WatchedJob, signs: VitalSigns): Promise<number> {
  const [from, startMs] = [job.committed, performance.now()];
  while (performance.now() - startMs < Number(values.seconds) * 1000) {
    await delay(CHECK_MS);
    await signs.check();
  }
  return Number(((1000 * (job.committed - from)) / (performance.now() - startMs)).toFixed(2));
}

/** A handshake costs milliseconds on both ends, so with certificates most say nothing. */
function targetsOf({ coordinator, dashboard, peers }: Ports, attackers: Attackers | undefined): readonly Target[] {
  const all = Number(values.connections);
  const viewers = attackers === undefined ? {} : { tlsFolder: join(cluster.tlsFolder, 'attacker-viewer-looker') };
  const others = (1 - SHARES.coordinator - SHARES.dashboard - SHARES.firstPeer) / (peers.length - 1);
  const count = (share: number): number => Math.ceil(all * share);
  const silentShare = attackers === undefined ? 0.125 : 0.875;
  return [
    {
      name: 'the coordinator',
      ...coordinator,
      count: count(SHARES.coordinator),
      limit: LIMITS.coordinator,
      silentShare,
      ...viewers,
    },
    { name: 'the dashboard', ...dashboard, count: count(SHARES.dashboard), limit: LIMITS.dashboard, silentShare: 1 },
    ...peers.map((peer, index) => ({
      ...{ name: `worker ${peer.port}`, ...peer, limit: LIMITS.peer },
      ...{ count: count(index === 0 ? SHARES.firstPeer : others), silentShare: attackers === undefined ? 0.125 : 1 },
    })),
  ];
}

async function openFiles(): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const name of [...cluster.coordinators, ...cluster.workers]) {
    counts.set(name, readdirSync(`/proc/${await cluster.pid(name)}/fd`).length);
  }
  return counts;
}

async function untilFreed(before: ReadonlyMap<string, number>): Promise<void> {
  let now = before;
  const look = async (): Promise<boolean> => {
    now = await openFiles();
    return [...now].every(([name, count]) => count <= (before.get(name) ?? 0) + FEW_FILES);
  };
  await until(look, { limitMs: FREE_MS, what: 'the files of the connections', everyMs: 500 }).catch(
    (error: unknown) => {
      throw new Error(`${String(error)}: before ${JSON.stringify([...before])}, now ${JSON.stringify([...now])}`);
    },
  );
}

const { cluster, ports, digest } = await startAttacked({ workers: 3, tls: values.tls });
const holders: Holder[] = [];
let newcomer: ChildProcess | undefined;
let failure: unknown;
const result = { without: 0, with: 0, growth_mib: 0, slowest_answer_ms: 0, newcomer_ms: 0, command_ms: 0 };
try {
  const job = await startJob(cluster);
  const attackers = values.tls ? await makeAttackers(cluster) : undefined;
  const signs = new VitalSigns(cluster, job, ports, attackers?.worker);
  await signs.begin();
  result.without = await stepsPerSecond(job, signs);
  const before = await openFiles();
  holders.push(...targetsOf(ports, attackers).map((target, index) => new Holder(target, index)));
  await Promise.all(holders.map((holder) => holder.untilHeld()));
  result.with = await stepsPerSecond(job, signs);
  const comesMs = performance.now();
  newcomer = await startNewcomer(cluster);
  result.newcomer_ms = Math.round(performance.now() - comesMs);
  result.command_ms = Math.round(await command(cluster, ports.coordinator));
  for (const holder of holders) holder.checkLimit();
  await leave(newcomer);
  for (const holder of holders) holder.close();
  await untilFreed(before);
  result.growth_mib = Math.round(signs.peakGrowthBytes / 2 ** 20);
  result.slowest_answer_ms = Math.round(signs.slowestAnswerMs);
  await letGo(job, digest);
} catch (error) {
  failure = error;
}
for (const holder of holders) holder.close();
newcomer?.kill('SIGKILL');
const stopped = await cluster.stop();
if (failure === undefined && stopped.left.length > 0) failure = new Error(`left running: ${stopped.left.join(', ')}`);
const held = holders.map(({ target: { name, count, limit }, last }) => ({ name, wanted: count, limit, ...last }));
process.stdout.write(
  `${JSON.stringify({ event: 'connections', tls: values.tls, ...result, held, failure: failure === undefined ? '' : String(failure) })}\n`,
);
process.exit(failure === undefined ? 0 : 1);
