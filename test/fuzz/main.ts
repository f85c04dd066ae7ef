/**
 * `npm run test:fuzz -- --minutes 10`: bytes that are wrong, or nearly right, to every port of a coordinator and of three workers while a
 * job trains. It fails when a process ends, a call is not answered, memory grows, no step comes, or the weights are others than without.
 * `--seed` makes the same bytes again.
 */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import type { WatchedJob } from '../faults/watched_job.js';
import { letGo, startAttacked, startJob } from './cluster_under_attack.js';
import { type Address, deliver, type Manner } from './deliver.js';
import { HostilePeer, hostileAnswers } from './hostile_answers.js';
import { anyFrames, callWith } from './http2_bytes.js';
import { coordinatorCalls, type Known, peerCall } from './messages.js';
import { anyBytes } from './mutations.js';
import { liveFrames, pageRequests } from './page_bytes.js';
import { type Ports, VitalSigns } from './vital_signs.js';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '10' }, seed: { type: 'string', default: String(Date.now() % 1e9) } },
});
const durationMs = Number(values.minutes) * 60_000;
const firstSeed = Number(values.seed);
/** Deliveries at a time to one port. */
const AT_ONCE = 4;
/** Deliveries of one kind in a round. */
const IN_A_ROUND = 12;
const CHECK_MS = 3_000;

interface Attack {
  readonly name: string;
  readonly address: Address;
  readonly bytes: fc.Arbitrary<Buffer>;
}

const manner: fc.Arbitrary<Manner> = fc.record({
  pieceBytes: fc.constantFrom(1, 7, 100, 65_536, 65_536),
  reads: fc.boolean(),
});

function attacksOn({ coordinator, dashboard, peers }: Ports, known: Known): readonly Attack[] {
  const host = `${dashboard.host}:${dashboard.port}`;
  const calls = coordinatorCalls(known);
  const pull = peerCall(known);
  return [
    ...calls.map(({ path, messages }) => ({ name: path, address: coordinator, bytes: callWith(path, messages) })),
    ...calls.map(({ path, messages }) => ({
      name: `${path}, frames`,
      address: coordinator,
      bytes: anyFrames(path, messages),
    })),
    { name: 'coordinator, bytes', address: coordinator, bytes: anyBytes },
    ...peers.flatMap((address) => [
      { name: 'peer', address, bytes: callWith(pull.path, pull.messages) },
      { name: 'peer, frames', address, bytes: anyFrames(pull.path, pull.messages) },
      { name: 'peer, bytes', address, bytes: anyBytes },
    ]),
    { name: 'page', address: dashboard, bytes: pageRequests(host) },
    { name: 'page, frames', address: dashboard, bytes: liveFrames(host, known.job) },
    { name: 'page, bytes', address: dashboard, bytes: anyBytes },
  ];
}

async function attack({ address, bytes }: Attack, seed: number): Promise<number> {
  const deliveries = fc.sample(fc.tuple(bytes, manner), { seed, numRuns: IN_A_ROUND });
  const next = async (): Promise<void> => {
    for (let one = deliveries.pop(); one !== undefined; one = deliveries.pop()) await deliver(address, one[0], one[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  return IN_A_ROUND;
}

async function attackReaders(peer: HostilePeer, seed: number): Promise<number> {
  for (const bytes of fc.sample(hostileAnswers, { seed, numRuns: IN_A_ROUND })) await peer.answerWith(bytes);
  return IN_A_ROUND;
}

const { cluster, ports, term, digest } = await startAttacked();
const hostile = await HostilePeer.start();
let deliveries = 0;
let jobs = 0;
let seed = firstSeed;
let peakGrowthBytes = 0;
let slowestAnswerMs = 0;
const startMs = performance.now();
const isTime = (): boolean => performance.now() - startMs < durationMs;

/** Attacks until the job is about to end or the time is over, then lets it end. */
async function attackDuring(job: WatchedJob): Promise<void> {
  const signs = new VitalSigns(cluster, job, ports);
  await signs.begin();
  const attacks = attacksOn(ports, { job: job.job, term });
  let checkedMs = performance.now();
  while (isTime() && job.end === undefined) {
    seed += 1;
    const counts = await Promise.all([...attacks.map((one) => attack(one, seed)), attackReaders(hostile, seed)]);
    deliveries += counts.reduce((sum, count) => sum + count, 0);
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
  for (; isTime(); jobs++) await attackDuring(await startJob(cluster));
} catch (error) {
  failure = error;
}
const stopped = await cluster.stop();
hostile.close();
if (failure === undefined && stopped.left.length > 0) failure = new Error(`left running: ${stopped.left.join(', ')}`);
if (failure === undefined && deliveries === 0) failure = new Error('nothing was delivered');
process.stdout.write(
  `${JSON.stringify({
    event: 'fuzz',
    seeds: [firstSeed, seed],
    minutes: Number(((performance.now() - startMs) / 60_000).toFixed(1)),
    deliveries,
    jobs,
    peak_growth_mib: Math.round(peakGrowthBytes / 2 ** 20),
    slowest_answer_ms: Math.round(slowestAnswerMs),
    failure: failure === undefined ? '' : String(failure),
  })}\n`,
);
process.exit(failure === undefined ? 0 : 1);
