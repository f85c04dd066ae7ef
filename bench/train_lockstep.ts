/** One run of bench:train under Lockstep. */
import type { JobFileOnDisk } from '../shared/job_file.js';
import type { FaultCluster } from '../test/faults/fault_cluster.js';
import { runOf, type TrainRun, type TrainSetup } from './train_setup.js';

const IDLE_MS = 60_000;

export async function trainLockstep(
  cluster: FaultCluster,
  file: JobFileOnDisk,
  setup: TrainSetup,
  limitMs: number,
): Promise<TrainRun> {
  await cluster.untilAllIdle(IDLE_MS);
  const job = await cluster.submitFile(file);
  const end = await job.untilEnd(limitMs);
  if (end.state !== 'finished') throw new Error(`the job ${end.state}: ${end.reason}`);
  const steps = job.events('stepCommitted');
  const times = steps.map(({ timeMs }) => timeMs);
  return runOf(times, steps.at(-1)?.loss ?? Number.NaN, setup);
}
