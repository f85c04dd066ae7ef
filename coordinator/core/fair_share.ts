/** What each user has had lately: worker-seconds that fade, so that yesterday's counts half as much as today's. */

const HALF_LIFE_MS = 24 * 3600 * 1000;
const MOST_USERS = 1_000;

export interface Usage {
  readonly workerSeconds: number;
  readonly atMs: number;
}

export type Usages = Map<string, Usage>;

/** Worker-seconds, faded. */
export function usageOf(usages: Usages, user: string, nowMs: number): number {
  const usage = usages.get(user);
  return usage === undefined ? 0 : usage.workerSeconds * 0.5 ** ((nowMs - usage.atMs) / HALF_LIFE_MS);
}

/** Those who have had most, the heaviest first. */
export function heaviestUsers(usages: Usages, nowMs: number): readonly { user: string; workerSeconds: number }[] {
  const users = [...usages.keys()].map((user) => ({ user, workerSeconds: usageOf(usages, user, nowMs) }));
  return users.sort((left, right) => right.workerSeconds - left.workerSeconds).slice(0, MOST_USERS);
}

export function addUsage(usages: Usages, user: string, workerSeconds: number, nowMs: number): void {
  usages.set(user, { workerSeconds: usageOf(usages, user, nowMs) + workerSeconds, atMs: nowMs });
}
