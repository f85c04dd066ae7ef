/** Worker-seconds by class, and what they cost, as people may see them. */
import type { Spent, Usage } from '../wire/jobs.js';

const SECONDS_PER_HOUR = 3600;

export interface Share {
  readonly name: string;
  readonly seconds: number;
}

/** The classes of a job's worker-seconds. They add up to all of them. */
export function classesOf(spent: Omit<Spent, 'workerSeconds' | 'queuedSeconds'>): readonly Share[] {
  return [
    { name: 'data', seconds: spent.dataSeconds },
    { name: 'compute', seconds: spent.computeSeconds },
    { name: 'reduce', seconds: spent.reduceSeconds },
    { name: 'gather', seconds: spent.gatherSeconds },
    { name: 'apply', seconds: spent.applySeconds },
    { name: 'checkpoint', seconds: spent.checkpointSeconds },
    { name: 'loading', seconds: spent.loadingSeconds },
    { name: 'recovery', seconds: spent.recoverySeconds },
    { name: 'waiting', seconds: spent.waitingSeconds },
  ];
}

/** Those of the cluster: of its jobs, and of the workers that no job had. */
export function clusterClassesOf(usage: Omit<Usage, 'users' | 'timeMs'>): readonly Share[] {
  return [
    ...classesOf(usage.jobs),
    { name: 'idle', seconds: usage.idleSeconds },
    { name: 'cordoned', seconds: usage.cordonedSeconds },
    { name: 'quarantined', seconds: usage.quarantinedSeconds },
    { name: 'leaving', seconds: usage.leavingSeconds },
  ];
}

export function totalOf(shares: readonly Share[]): number {
  return shares.reduce((sum, { seconds }) => sum + seconds, 0);
}

/** "compute 81 %, reduce 9 %": without those that round to nothing. */
export function sharesText(shares: readonly Share[]): string {
  const total = totalOf(shares);
  const percent = ({ seconds }: Share): number => (total === 0 ? 0 : Math.round((100 * seconds) / total));
  const shown = shares.filter((share) => percent(share) > 0);
  return shown.map((share) => `${share.name} ${percent(share)} %`).join(', ');
}

/** With more digits below a tenth of an hour. */
export function hoursText(workerSeconds: number): string {
  const hours = workerSeconds / SECONDS_PER_HOUR;
  return hours.toFixed(hours > 0 && hours < 0.1 ? 4 : 2);
}

export function costText(workerSeconds: number, pricePerWorkerHour: number): string {
  return ((workerSeconds / SECONDS_PER_HOUR) * pricePerWorkerHour).toFixed(2);
}
