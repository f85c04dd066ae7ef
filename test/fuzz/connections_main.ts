/**
 * `npm run test:connections`: 10,000 connections, idle ones and such that speak HTTP/2 and make no call, to a coordinator, its dashboard and a
 * worker beside a job that trains. It goes on, others are served, and the weights are the same. Prints steps a second without and with them.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import type { WatchedJob } from '../faults/watched_job.js';
import { letGo, startAttacked, startJob } from './cluster_under_attack.js';
import { VitalSigns } from './vital_signs.js';

const { values } = parseArgs({
  options: { connections: { type: 'string', default: '10000' }, seconds: { type: 'string', default: '15' } },
});
const HOLDER = fileURLToPath(new URL('./connection_holder.js', import.meta.url));
const counts = z.object({ opened: z.number(), closed: z.number() });
const CHECK_MS = 3_000;
const OPEN_MS = 120_000;

async function stepsPerSecond(job: WatchedJob, signs: VitalSigns): Promise<number> {
  const [from, startMs] = [job.committed, performance.now()];
  while (performance.now() - startMs < Number(values.seconds) * 1000) {
    await delay(CHECK_MS);
    await signs.check();
  }
  return (1000 * (job.committed - from)) / (performance.now() - startMs);
}

interface Holder {
  readonly child: ChildProcess;
  readonly held: Promise<z.infer<typeof counts>>;
}

/** From an address of its own, so that it can keep out nobody but itself. */
function holder({ host, port }: { host: string; port: number }, index: number, count: number): Holder {
  const child = fork(HOLDER, [host, String(port), `127.0.1.${index + 1}`, String(count)]);
  const held = new Promise<z.infer<typeof counts>>((resolve, reject) => {
    child.once('message', (message) => resolve(counts.parse(message)));
    child.once('exit', (code) => reject(new Error(`a holder of connections ended with ${code}`)));
    setTimeout(() => reject(new Error('the connections were not opened in time')), OPEN_MS).unref();
  });
  held.catch(() => undefined);
  return { child, held };
}

const { cluster, ports, digest } = await startAttacked({ workers: 3, tls: false });
const holders: Holder[] = [];
let failure: unknown;
const result = { without: 0, with: 0, opened: 0, closed: 0, growth_mib: 0, slowest_answer_ms: 0 };
try {
  const job = await startJob(cluster);
  const signs = new VitalSigns(cluster, job, ports);
  await signs.begin();
  result.without = await stepsPerSecond(job, signs);
  const targets = [ports.coordinator, ports.dashboard, ...ports.peers];
  const each = Math.ceil(Number(values.connections) / targets.length);
  holders.push(...targets.map((address, index) => holder(address, index, each)));
  for (const { opened, closed } of await Promise.all(holders.map(({ held }) => held))) {
    result.opened += opened;
    result.closed += closed;
  }
  if (result.opened < each * targets.length) throw new Error(`only ${result.opened} connections could be opened`);
  result.with = await stepsPerSecond(job, signs);
  result.growth_mib = Math.round(signs.peakGrowthBytes / 2 ** 20);
  result.slowest_answer_ms = Math.round(signs.slowestAnswerMs);
  await letGo(job, digest);
} catch (error) {
  failure = error;
}
for (const { child } of holders) child.kill();
const stopped = await cluster.stop();
if (failure === undefined && stopped.left.length > 0) failure = new Error(`left running: ${stopped.left.join(', ')}`);
process.stdout.write(
  `${JSON.stringify({ event: 'connections', ...result, failure: failure === undefined ? '' : String(failure) })}\n`,
);
process.exit(failure === undefined ? 0 : 1);
