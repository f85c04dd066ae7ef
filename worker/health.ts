/**
 * Whether this worker daemon is stuck. Trouble elsewhere is no fault of it: with etcd or the coordinators out of reach a worker trains
 * on, and only a daemon that has stopped trying to reach them is stuck. Nor is trouble that the core deals with, such as an engine that
 * hangs or crashes.
 */
import { Lasting } from '../shared/service/lasting.js';
import type { WorkerState } from './core/state.js';

/** Between the exit of an engine, or the order to start one, and its process; fetching the code counts as starting. */
const NO_ENGINE_MS = 30_000;
/** SIGKILL takes effect at once, unless the kernel itself is stuck in a driver. */
const KILLED_MS = 60_000;
/** A coordinator greets within seconds, or the stream is ended. */
const GREETING_MS = 60_000;
const STOPPED_MS = 10_000;

export interface WorkerParts {
  readonly state: Pick<WorkerState, 'session' | 'run'>;
  /** The engine of this number runs, or is being started. */
  readonly hasEngine: (start: number) => boolean;
  readonly session: { hasStopped(): boolean; openForMs(nowMs: number): number };
  readonly leaderWatch: { hasStopped(nowMs: number): boolean };
}

/** Returns the function that says what is wrong now. */
export function workerHealth(parts: WorkerParts): (nowMs: number) => string | undefined {
  const { state, session, leaderWatch } = parts;
  const noEngine = new Lasting(NO_ENGINE_MS);
  const killed = new Lasting(KILLED_MS);
  const stopped = new Lasting(STOPPED_MS);
  return (nowMs) => {
    const { run } = state;
    const lost = run !== undefined && !run.unloading && !parts.hasEngine(run.engineStart);
    const problems: readonly (readonly [boolean, string])[] = [
      [noEngine.look(nowMs, lost), 'a job is loaded and its engine neither runs nor is being started'],
      [killed.look(nowMs, run?.unloading === true), 'an engine that was killed is still there'],
      [stopped.look(nowMs, session.hasStopped()), 'a coordinator leads and nothing tries to reach it'],
      [state.session !== 'up' && session.openForMs(nowMs) > GREETING_MS, 'a session is open and was never begun'],
      [leaderWatch.hasStopped(nowMs), 'nothing looks any more who leads'],
    ];
    return problems.find(([holds]) => holds)?.[1];
  };
}
