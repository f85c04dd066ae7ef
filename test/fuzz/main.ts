/**
 * `npm run test:fuzz -- --minutes 10`: bytes that are wrong, or nearly right, to every port of a coordinator and of its workers, and from
 * engines to their daemons, while a job trains. It fails when a process ends, a call is not answered, memory grows, no step comes, or the
 * weights are others than without; then the cluster's folder, with its logs, is kept. `--tls`: the ports ask for certificates, and it is members of the lowest roles and strangers who attack.
 * `--seed` makes the same bytes again.
 */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import type { WatchedJob } from '../faults/watched_job.js';
import { type Attackers, makeAttackers } from './attackers.js';
import { attack, IN_A_ROUND, plainAttacks, securedAttacks } from './attacks.js';
import { letGo, startAttacked, startJob } from './cluster_under_attack.js';
import { engineBytes } from './engine_lines.js';
import { HostilePeer, hostileAnswers } from './hostile_answers.js';
import { HostileEngines, hearEngine } from './hostile_engines.js';
import { Siege } from './siege.js';
import { clientHello } from './strangers.js';
import { VitalSigns } from './vital_signs.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
    tls: { type: 'boolean', default: false },
  },
});
const durationMs = Number(values.minutes) * 60_000;
const firstSeed = Number(values.seed);
const CHECK_MS = 3_000;
/** One more than the job that trains has, for the jobs of hostile engines. */
const WORKERS = 4;

async function attackReaders(peer: HostilePeer, seed: number): Promise<number> {
  for (const bytes of fc.sample(hostileAnswers, { seed, numRuns: IN_A_ROUND })) await peer.answerWith(bytes);
  const pipes = fc.sample(fc.tuple(engineBytes, fc.boolean()), { seed, numRuns: IN_A_ROUND });
  for (const [bytes, isComputing] of pipes) await hearEngine(bytes, isComputing);
  return 2 * IN_A_ROUND;
}

interface Secured {
  readonly attackers: Attackers;
  readonly hello: Buffer;
  readonly siege: Siege;
}

const { cluster, ports, term, digest } = await startAttacked({ workers: WORKERS, tls: values.tls });
const hostilePeer = await HostilePeer.start();
const engines = new HostileEngines(cluster);
let secured: Secured | undefined;
let deliveries = 0;
let jobs = 0;
let seed = firstSeed;
let peakGrowthBytes = 0;
let slowestAnswerMs = 0;
let siegeRounds: Promise<unknown> = Promise.resolve();
const startMs = performance.now();
const isTime = (): boolean => performance.now() - startMs < durationMs;

async function startSiege(): Promise<Secured> {
  const [attackers, hello] = [await makeAttackers(cluster), await clientHello()];
  const siege = new Siege(cluster, ports, attackers, hello);
  let failure: unknown;
  const rounds = async (): Promise<void> => {
    for (let number = 0; isTime() && failure === undefined; number++) await siege.round(number);
  };
  siegeRounds = rounds();
  // Waited for at the end; meanwhile it is no unhandled rejection.
  siegeRounds.catch((error: unknown) => {
    failure = error;
  });
  return { attackers, hello, siege };
}

/** Attacks until the job is about to end or the time is over, then lets it end. */
async function attackDuring(job: WatchedJob): Promise<void> {
  const signs = new VitalSigns(cluster, job, ports, secured?.attackers.worker);
  await signs.begin();
  const target = { job: job.job, term };
  const attacks =
    secured === undefined
      ? plainAttacks(ports, target)
      : securedAttacks(ports, target, secured.attackers, secured.hello);
  let checkedMs = performance.now();
  while (isTime() && job.end === undefined) {
    seed += 1;
    const counts = await Promise.all([...attacks.map((one) => attack(one, seed)), attackReaders(hostilePeer, seed)]);
    deliveries += counts.reduce((sum, count) => sum + count, 0);
    engines.check();
    if (performance.now() - checkedMs < CHECK_MS) continue;
    await signs.check();
    checkedMs = performance.now();
  }
  await signs.check();
  await letGo(job, digest);
  peakGrowthBytes = Math.max(peakGrowthBytes, signs.peakGrowthBytes);
  slowestAnswerMs = Math.max(slowestAnswerMs, signs.slowestAnswerMs);
}

let failure: unknown;
try {
  if (values.tls) secured = await startSiege();
  engines.begin(firstSeed);
  for (; isTime(); jobs++) await attackDuring(await startJob(cluster));
  await engines.end();
  await siegeRounds;
  await secured?.siege.end();
} catch (error) {
  failure = error;
  secured?.siege.giveUp();
}
const stopped = await cluster.stop({ keepsFolder: failure !== undefined });
hostilePeer.close();
if (failure === undefined && stopped.left.length > 0) failure = new Error(`left running: ${stopped.left.join(', ')}`);
if (failure === undefined && (deliveries === 0 || engines.engines === 0)) failure = new Error('nothing was delivered');
process.stdout.write(
  `${JSON.stringify({
    event: 'fuzz',
    tls: values.tls,
    seeds: [firstSeed, seed],
    minutes: Number(((performance.now() - startMs) / 60_000).toFixed(1)),
    deliveries,
    refused: secured?.siege.refused ?? 0,
    jobs,
    hostile_jobs: engines.jobs,
    hostile_engines: engines.engines,
    peak_growth_mib: Math.round(peakGrowthBytes / 2 ** 20),
    slowest_answer_ms: Math.round(slowestAnswerMs),
    failure: failure === undefined ? '' : String(failure),
    ...(failure === undefined ? {} : { kept: cluster.folder }),
  })}\n`,
);
process.exit(failure === undefined ? 0 : 1);
