/** What a daemon tells the service manager that started it: that it is ready, that it goes on well, that it needs time to stop. See sd_notify(3). */
import koffi from 'koffi';

/** The watchdog is fed so often within its limit that one late turn of the main loop is no fault. */
const FEEDS_A_LIMIT = 4;

export interface ServiceManager {
  /** How often the watchdog is to be fed; undefined where there is none. */
  readonly feedEveryMs: number | undefined;
  ready(status: string): void;
  feed(): void;
  /** The daemon has been told to stop and does so. */
  stopping(status: string): void;
  /** Whatever the unit says, the daemon may take so long from now. */
  extend(ms: number): void;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** One that hears nothing where nobody manages this process. */
export function serviceManager(environment: Environment): ServiceManager {
  if (environment['NOTIFY_SOCKET'] === undefined) return managerOf(() => undefined, undefined);
  // The library is systemd's own, so it is there where systemd is.
  const notify = koffi.load('libsystemd.so.0').func('int sd_notify(int unset, const char *state)');
  return managerOf((state) => notify(0, state), feedEveryMs(environment, process.pid));
}

/** systemd says in microseconds when it takes the daemon for dead, and whom it means. */
export function feedEveryMs(environment: Environment, pid: number): number | undefined {
  const limitUs = Number(environment['WATCHDOG_USEC']);
  const watched = environment['WATCHDOG_PID'];
  if (!Number.isSafeInteger(limitUs) || limitUs <= 0) return undefined;
  if (watched !== undefined && Number(watched) !== pid) return undefined;
  return limitUs / 1000 / FEEDS_A_LIMIT;
}

export function managerOf(notify: (state: string) => void, every: number | undefined): ServiceManager {
  return {
    feedEveryMs: every,
    ready: (status) => notify(`READY=1\nSTATUS=${status}`),
    feed: () => notify('WATCHDOG=1'),
    stopping: (status) => notify(`STOPPING=1\nSTATUS=${status}`),
    extend: (ms) => notify(`EXTEND_TIMEOUT_USEC=${Math.round(ms * 1000)}`),
  };
}
