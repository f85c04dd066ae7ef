/** What is true of the accounts: every second of every worker is in one class, no sum goes back, and none is lost with a leader that had stored it. */
import type { CoordinatorEvent } from '../../coordinator/core/event.js';
import { usageOf } from '../../coordinator/core/fair_share.js';
import { NAMED } from '../../coordinator/core/spent.js';
import type { JobRecord } from '../../coordinator/core/state.js';
import type { Spent } from '../../shared/wire/jobs.js';
import type { CoordinatorHost } from './coordinator_host.js';
import { Violation } from './world.js';

/** Of sums of many small numbers. */
const ROUNDING = 1e-6;

export class AccountingOracle {
  /** Worker-seconds of each leader since it began, by its own count of workers. */
  readonly #seconds = new Map<string, number>();

  after(host: CoordinatorHost, event: CoordinatorEvent, accountedBeforeMs: number): void {
    const { state, name } = host;
    if (state.leading === undefined) return;
    if (event.kind === 'elected') {
      this.#seconds.set(name, 0);
      checkAdopted(host, event);
      return;
    }
    const elapsedMs = state.accountedMs - accountedBeforeMs;
    if (elapsedMs === 0) return;
    const seconds = (this.#seconds.get(name) ?? 0) + (state.workers.size * elapsedMs) / 1000;
    this.#seconds.set(name, seconds);
    const { jobs, unused } = state.cluster;
    const counted = Object.values(unused).reduce((total, one) => total + one, jobs.workerSeconds);
    if (Math.abs(counted - seconds) > ROUNDING * (1 + seconds)) {
      throw new Violation(
        'accounts',
        `${name}: ${counted} worker-seconds are accounted for, and ${seconds} have passed`,
      );
    }
    checkClasses(name, jobs);
    for (const { record, spent } of state.jobs.values()) checkClasses(`${name} ${record.job}`, spent);
  }

  stored(record: JobRecord, before: JobRecord | undefined): void {
    if (before === undefined) return;
    const [old, now] = [before.spent, record.spent];
    const isLess = (name: 'workerSeconds' | 'queuedSeconds'): boolean => now[name] < old[name] - ROUNDING;
    if (isLess('workerSeconds') || isLess('queuedSeconds')) {
      const from = `${old.workerSeconds} and ${old.queuedSeconds} queued`;
      const to = `${now.workerSeconds} and ${now.queuedSeconds} queued`;
      throw new Violation('accounts', `etcd ${record.job}: spent goes from ${from} to ${to}`);
    }
  }
}

function checkClasses(where: string, spent: Spent): void {
  const named = NAMED.reduce((seconds, name) => seconds + spent[name], 0);
  const least = Math.min(...Object.values(spent));
  const difference = Math.abs(named + spent.waitingSeconds - spent.workerSeconds);
  if (least < 0 || difference > ROUNDING * (1 + spent.workerSeconds)) {
    throw new Violation('accounts', `${where}: the classes do not add up: ${JSON.stringify(spent)}`);
  }
}

function checkAdopted(
  { state, name, nowMs }: CoordinatorHost,
  { accounts }: Extract<CoordinatorEvent, { kind: 'elected' }>,
): void {
  for (const { user, workerSeconds } of accounts?.users ?? []) {
    const now = usageOf(state.usages, user, nowMs);
    // Faded by less than a day, whatever the clocks do.
    if (now > workerSeconds + ROUNDING || now < workerSeconds / 2 - ROUNDING) {
      throw new Violation('accounts', `${name}: ${user} has had ${now}, ${workerSeconds} are stored`);
    }
  }
  for (const { job, spent } of accounts?.jobs ?? []) {
    const run = state.jobs.get(job);
    if (run !== undefined && run.spent.queuedSeconds < spent.queuedSeconds - ROUNDING) {
      throw new Violation('accounts', `${name}: ${job} has waited for less than what is stored`);
    }
  }
}
