/** Lockstep's own placement, and plain first come, first served, on a simulated month. */
import { addUsage, type Usages, usageOf } from '../../coordinator/core/fair_share.js';
import { agedPriority, mayYield, type PlacedJob, placeJobs } from '../../coordinator/core/placement.js';
import type { MonthDecision, MonthState, Policy, RunningJob } from './month_run.js';

function hasGpu(state: MonthState): ReadonlyMap<string, boolean> {
  return new Map(state.machines.map((machine) => [machine.worker, machine.hasGpu]));
}

export class LockstepPolicy implements Policy {
  readonly #usages: Usages = new Map();

  used(user: string, workerSeconds: number, nowS: number): void {
    addUsage(this.#usages, user, workerSeconds, nowS * 1000);
  }

  decide(state: MonthState): readonly MonthDecision[] {
    const gpus = hasGpu(state);
    const placed = (worker: string) => ({ worker, scarcity: gpus.get(worker) === true ? 1 : 0, quarantined: false });
    const { decisions } = placeJobs({
      barred: [],
      jobs: state.open.filter((job) => !job.leaving).map((job) => this.#placed(job, state.nowS, gpus)),
      idle: [...state.idle].map(placed),
      coming: [...state.coming].map(placed),
      spares: 0,
      quotaOf: () => Number.POSITIVE_INFINITY,
      usageOf: (user) => usageOf(this.#usages, user, state.nowS * 1000),
    });
    return decisions;
  }

  #placed(
    { spec, held, readyS, startS, backfilled, waitedS }: RunningJob,
    nowS: number,
    gpus: ReadonlyMap<string, boolean>,
  ): PlacedJob {
    const { job, user, priority, submittedS, workersMin, workersMax, needsGpu } = spec;
    return {
      job,
      user,
      priority: agedPriority(priority, waitedS * 1000),
      submittedMs: submittedS * 1000,
      workersMin,
      workersMax,
      held: [...held],
      short: false,
      stuck: false,
      steady: held.size > 0 && nowS >= readyS,
      canBeSaved: true,
      backfilled,
      yields: mayYield(backfilled, (nowS - startS) * 1000),
      requirement: needsGpu ? 'GPU' : '',
      misfit: (worker) => (needsGpu && gpus.get(worker) !== true ? 'it has no GPU' : undefined),
    };
  }
}

/** The oldest job takes what it can use, or holds up all others. What it has it keeps. */
export class FifoPolicy implements Policy {
  decide(state: MonthState): readonly MonthDecision[] {
    const gpus = hasGpu(state);
    const idle = new Set(state.idle);
    const decisions: MonthDecision[] = [];
    for (const { spec, held } of state.open) {
      if (held.size > 0) continue;
      const fitting = [...idle]
        .filter((worker) => !spec.needsGpu || gpus.get(worker) === true)
        .sort((left, right) => Number(gpus.get(left)) - Number(gpus.get(right)));
      if (fitting.length < spec.workersMin) break;
      for (const worker of fitting.slice(0, spec.workersMax)) {
        idle.delete(worker);
        decisions.push({ kind: 'assign', job: spec.job, worker, backfilled: false });
      }
    }
    return decisions;
  }
}
