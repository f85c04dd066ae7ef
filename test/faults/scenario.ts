/** What most scenarios begin with: a job that all workers of the cluster take part in. */
import type { FaultCluster } from './fault_cluster.js';
import type { FaultJobOptions } from './fault_job.js';
import { calmDigest } from './outcome.js';
import type { WatchedJob } from './watched_job.js';

/** For engines to import PyTorch, load the job and heal, on a machine that does much else. */
export const JOIN_MS = 120_000;

export interface Running {
  readonly job: WatchedJob;
  readonly steps: number;
  /** Of the weights in a run without faults. */
  readonly digest: string;
}

/** A job that has committed a few steps with all workers. */
export async function startRunning(cluster: FaultCluster, options: FaultJobOptions): Promise<Running> {
  await cluster.untilAllIdle(JOIN_MS);
  const digest = await calmDigest(cluster, options);
  await cluster.untilAllIdle(JOIN_MS);
  const job = await cluster.submit(options);
  await job.untilRoster(cluster.workers, JOIN_MS);
  await job.untilCommitted(5, JOIN_MS);
  return { job, steps: options.steps, digest };
}
