/**
 * Processes that lost their parent: engines of a worker that was killed, or what users' code started. Whoever wants to find and end
 * them, a worker daemon or the launcher of a local cluster, makes itself their new parent (a child subreaper).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import koffi from 'koffi';

const PR_SET_CHILD_SUBREAPER = 36;
const WNOHANG = 1;

const libc = koffi.load('libc.so.6');
const prctl = libc.func('int prctl(int option, ulong a, ulong b, ulong c, ulong d)');
const waitpid = libc.func('int waitpid(int pid, void *status, int options)');

function childrenOfThisProcess(): readonly number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => parentOf(pid) === process.pid);
}

/** The command in the second field may contain spaces and parentheses. */
function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}

/** One at a time in a process: the orphans of two could not be told apart. */
export class Orphans {
  readonly #before: ReadonlySet<number>;
  #closed = false;

  /** `known` are the children that this process itself started and that still run. */
  constructor(private readonly known: () => ReadonlySet<number>) {
    this.#before = new Set(childrenOfThisProcess());
    if (Number(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) !== 0)
      throw new Error('prctl(PR_SET_CHILD_SUBREAPER) failed');
  }

  /** Kills the orphans that are there now and buries those that are dead. Returns how many were there. */
  sweep(): number {
    if (this.#closed) return 0;
    const known = this.known();
    const orphans = childrenOfThisProcess().filter((pid) => !known.has(pid) && !this.#before.has(pid));
    for (const pid of orphans) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has just ended.
      }
      waitpid(pid, null, WNOHANG);
    }
    return orphans.length;
  }

  /**
   * Sweeps until none is left, and no known child either, since its children become orphans when it dies. The last sweep: what the
   * process starts after it belongs to somebody else.
   */
  async sweepAll(limitMs: number): Promise<void> {
    const untilMs = performance.now() + limitMs;
    while (this.sweep() + this.known().size > 0 && performance.now() < untilMs) await delay(20);
    this.#closed = true;
  }
}
