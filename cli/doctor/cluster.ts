/** Whether the rest of the cluster can be reached from here, and whether its clock is ours. */
import { connectEtcd } from '../../shared/etcd/client.js';
import { readLeader } from '../../shared/etcd/leader_watch.js';
import type { Credentials } from '../../shared/identity/credential_files.js';
import type { JobsClient } from '../jobs_client.js';
import { type Finding, fail, ok, reasonOf, warn } from './finding.js';

const ETCD_MS = 3000;
const SKEW_MS = 1000;

export async function checkEtcd(
  endpoints: readonly string[],
  prefix: string,
  certificates?: Credentials,
): Promise<Finding> {
  const credentials = certificates && { current: certificates, onChange: () => undefined };
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
