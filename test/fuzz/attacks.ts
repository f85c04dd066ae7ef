/** Which bytes go to which port, and who brings them. */
import type { SecureContext } from 'node:tls';
import fc from 'fast-check';
import { ABSENT_WORKER, type Attackers, contextOf } from './attackers.js';
import { type Address, deliver, type Manner } from './deliver.js';
import { anyFrames, callWith } from './http2_bytes.js';
import { type Call, coordinatorCalls, joinCall, type Known, peerCall } from './messages.js';
import { anyBytes, nearly } from './mutations.js';
import { liveFrames, pageRequests } from './page_bytes.js';
import type { Ports } from './vital_signs.js';

/** Deliveries at a time to one port. */
const AT_ONCE = 4;
/** Deliveries of one kind in a round. */
export const IN_A_ROUND = 12;
/** What a worker may ask of a coordinator, and some of what it may not. */
const OF_WORKERS = /Session|Bundles|Cancel|Cordon|Create/;

export interface Attack {
  readonly address: Address;
  readonly bytes: fc.Arbitrary<Buffer>;
  /** By whom, over TLS. */
  readonly by?: SecureContext;
}

const manner: fc.Arbitrary<Manner> = fc.record({
  pieceBytes: fc.constantFrom(1, 7, 100, 65_536, 65_536),
  reads: fc.boolean(),
});

function calls(all: readonly Call[], address: Address, by?: SecureContext): readonly Attack[] {
  const who = by === undefined ? {} : { by };
  return all.flatMap(({ path, messages }) => [
    { address, bytes: callWith(path, messages), ...who },
    { address, bytes: anyFrames(path, messages), ...who },
  ]);
}

function onPages(dashboard: Address, job: string): readonly Attack[] {
  const host = `${dashboard.host}:${dashboard.port}`;
  return [
    { address: dashboard, bytes: pageRequests(host) },
    { address: dashboard, bytes: liveFrames(host, job) },
    { address: dashboard, bytes: anyBytes },
  ];
}

type Target = Pick<Known, 'job' | 'term'>;

/** On a cluster that asks nobody who he is. */
export function plainAttacks({ coordinator, dashboard, peers }: Ports, target: Target): readonly Attack[] {
  const known = { ...target, self: 'x4', mayChange: true };
  return [
    ...calls(coordinatorCalls(known), coordinator),
    { address: coordinator, bytes: anyBytes },
    ...peers.flatMap((address) => [...calls([peerCall(known)], address), { address, bytes: anyBytes }]),
    ...onPages(dashboard, target.job),
  ];
}

/** On one with certificates: by members, and by strangers who send anything but a handshake, or something like one. */
export function securedAttacks(
  { coordinator, dashboard, peers, join }: Ports,
  target: Target,
  { viewer, worker, nobody }: Attackers,
  hello: Buffer,
): readonly Attack[] {
  const [byViewer, byWorker] = [contextOf(viewer), contextOf(worker)];
  const known = { ...target, self: ABSENT_WORKER, mayChange: false };
  const all = coordinatorCalls(known);
  const greetings = nearly(fc.constant(hello));
  const joined = join === undefined ? [] : [join];
  const secured = [coordinator, ...peers, ...joined];
  return [
    ...calls(all, coordinator, byViewer),
    ...calls(
      all.filter(({ path }) => OF_WORKERS.test(path)),
      coordinator,
      byWorker,
    ),
    ...peers.flatMap((address) => [
      ...calls([peerCall(known)], address, byWorker),
      ...calls([peerCall(known)], address, byViewer),
    ]),
    ...joined.flatMap((address) => calls([joinCall(known)], address, nobody)),
    ...secured.flatMap((address) => [
      { address, bytes: greetings },
      { address, bytes: anyBytes },
      { address, bytes: anyBytes, by: byViewer },
    ]),
    ...calls(all.slice(0, 3), coordinator),
    ...onPages(dashboard, target.job),
    { address: dashboard, bytes: greetings },
  ];
}

export async function attack({ address, bytes, by }: Attack, seed: number): Promise<number> {
  const deliveries = fc.sample(fc.tuple(bytes, manner), { seed, numRuns: IN_A_ROUND });
  const next = async (): Promise<void> => {
    for (let one = deliveries.pop(); one !== undefined; one = deliveries.pop()) {
      await deliver(address, by, one[0], one[1]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  return IN_A_ROUND;
}
