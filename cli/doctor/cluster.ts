/** Whether the rest of the cluster can be reached from here, and whether its clock is ours. */

import { z } from 'zod';
import type { EtcdConfig } from '../../shared/config.js';
import { connectEtcd } from '../../shared/etcd/client.js';
import { workersFolder } from '../../shared/etcd/keys.js';
import { readLeader } from '../../shared/etcd/leader_watch.js';
import { readMembers } from '../../shared/etcd/member_watch.js';
import type { Credentials } from '../../shared/identity/credential_files.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import { formatBytes } from '../../shared/text/numbers.js';
import { bandwidthTo } from '../../worker/io/preflight.js';
import type { JobsClient } from '../jobs_client.js';
import { type Finding, fail, ok, reasonOf, warn } from './finding.js';

const ETCD_MS = 3000;
const SKEW_MS = 1000;

export async function checkEtcd(
  endpoints: readonly string[],
  prefix: string,
  certificates?: Credentials,
): Promise<Finding> {
  const credentials = certificates && fixed(certificates);
  const client = connectEtcd({ endpoints, prefix: `${prefix}/`, callTimeoutMs: ETCD_MS, credentials });
  const where = endpoints.join(', ');
  try {
    const leader = await readLeader(client);
    if (leader !== undefined) return ok('etcd', `${where} answers; ${leader.name} at ${leader.address} leads`);
    return warn(
      'etcd',
      `${where} answers, and no coordinator leads`,
      `start a coordinator, or check the prefix ${prefix}`,
    );
  } catch (error) {
    return fail(
      'etcd',
      `${where}: ${reasonOf(error)}`,
      'check that etcd runs and that nothing between here and there blocks it',
    );
  } finally {
    client.close();
  }
}

function fixed(current: Credentials): CredentialSource {
  return { current, onChange: () => undefined };
}

/** Who asks its peers. */
interface Self {
  readonly worker: string;
  readonly peerAddress: string;
  readonly credentials: Credentials | undefined;
}

const MOST_PEERS = 2;
const registered = z.object({ name: z.string(), address: z.string() });

/** Pulls some test bytes from two of the workers that are registered in etcd, but not from the one of this name. */
export async function checkPeers(
  { endpoints, prefix }: Pick<EtcdConfig, 'endpoints' | 'prefix'>,
  self: Self,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const client = connectEtcd({
    endpoints,
    prefix: `${prefix}/`,
    callTimeoutMs: ETCD_MS,
    credentials: self.credentials && fixed(self.credentials),
  });
  try {
    const members = [...(await readMembers(client, workersFolder)).values()];
    const peers = members.flatMap((member) => registered.safeParse(member).data ?? []);
    const others = peers.filter(({ name }) => name !== self.worker).slice(0, MOST_PEERS);
    const findings = [];
    for (const { name, address } of others) findings.push(await checkPeer(name, address, self, signal));
    return findings;
  } catch {
    return []; // What is wrong with etcd has been said.
  } finally {
    client.close();
  }
}

async function checkPeer(worker: string, peerAddress: string, self: Self, signal: AbortSignal): Promise<Finding> {
  const who = { ...self, incarnation: 'doctor', credentials: () => self.credentials };
  const { bytesPerSecond, problem, sameHost } = await bandwidthTo({ worker, peerAddress }, who, signal);
  const where = `${worker} at ${peerAddress}`;
  if (problem !== '')
    return fail(
      'peer',
      `${where}: ${problem}`,
      'workers pull gradients from each other; see what blocks that port, and its key advertise',
    );
  return ok('peer', `${formatBytes(bytesPerSecond)}/s from ${where}${sameHost ? ', on this host' : ''}`);
}

export async function checkCoordinator(
  client: JobsClient,
  wallMs: () => number = Date.now,
): Promise<readonly Finding[]> {
  try {
    await client.nodes(); // The first call opens the connection, and would make the clock look late.
    const askedMs = wallMs();
    const { nodes, timeMs } = await client.nodesAndTime();
    const middleMs = (askedMs + wallMs()) / 2;
    return [ok('coordinator', `it answers, and knows ${nodes.length} workers`), clockFinding(timeMs - middleMs)];
  } catch (error) {
    return [fail('coordinator', reasonOf(error), 'check --server and that a coordinator runs there')];
  }
}

/** Nothing relies on the clocks of two machines agreeing, but people compare their logs. */
export function clockFinding(skewMs: number): Finding {
  const found = `the coordinator's clock is ${Math.abs(Math.round(skewMs))} ms ${skewMs < 0 ? 'behind' : 'ahead'}`;
  if (Math.abs(skewMs) < SKEW_MS) return ok('clock', found);
  return warn('clock', found, 'times in logs and events will not fit together; run an NTP client on both machines');
}
