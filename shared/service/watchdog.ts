/**
 * Feeds the service manager's watchdog from the main loop, as long as the daemon finds itself healthy: a loop that does not turn any
 * more feeds nothing, and neither does a daemon that is stuck though its loop turns.
 */
import type { Logger } from '../logger.js';
import type { ServiceManager } from './service_manager.js';

export interface WatchdogOptions {
  readonly manager: ServiceManager;
  /** What is wrong with this daemon that only a new process puts right; undefined: nothing. */
  readonly problem: (nowMs: number) => string | undefined;
  readonly log: Pick<Logger, 'error'>;
}

/** Returns what ends it. */
export function startWatchdog({ manager, problem, log }: WatchdogOptions): () => void {
  if (manager.feedEveryMs === undefined) return () => undefined;
  let said: string | undefined;
  const timer = setInterval(() => {
    const found = problem(performance.now());
    if (found === undefined) manager.feed();
    else if (found !== said) log.error('this daemon is stuck and waits to be started again', { problem: found });
    said = found;
  }, manager.feedEveryMs);
  return () => clearInterval(timer);
}
