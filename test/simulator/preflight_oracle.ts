/** Watches that workers get no job before they have measured themselves, nor while what they found is known to be bad. */
import type { CoordinatorEvent } from '../../coordinator/core/event.js';
import type { Preflight } from '../../shared/wire/jobs.js';
import type { CoordinatorHost } from './coordinator_host.js';
import { Violation, type World } from './world.js';

interface Heard {
  readonly found: Preflight;
  /** Why the worker is to get no job; empty if it may. */
  readonly bad: string;
}

type Reports = Map<string, Heard>;

/** With so many others that are as fast as they should be, a slow one is seen: there are six workers at most. */
const FAST_OTHERS = 3;

export class PreflightOracle {
  /** What each coordinator has heard since it was elected, by worker. */
  readonly #heard = new WeakMap<CoordinatorHost, Reports>();
  /** Whose sessions those are that have been begun anywhere. */
  readonly #workers = new Map<string, string>();
  /** Workers that an operator has taken back at any time: the request may have been under way when they were measured again. */
  readonly #takenBack = new Set<string>();

  constructor(private readonly world: World) {}

  beforeCoordinator(host: CoordinatorHost, event: CoordinatorEvent): void {
    if (event.kind === 'elected') this.#heard.set(host, new Map());
    else if (event.kind === 'uncordon') this.#takenBack.add(event.worker);
    const reports = this.#heard.get(host);
    if (event.kind !== 'session_message' || reports === undefined) return;
    const { message, session } = event;
    if (message.kind === 'hello') {
      this.#workers.set(session, message.worker);
      repeat(reports, message.worker, message.preflight);
    } else if (message.kind === 'measured') {
      // The session may be one that the coordinator has ended.
      const worker = host.state.sessions.get(session);
      if (worker !== undefined) reports.set(worker, this.#judged(reports, worker, message.preflight));
    }
  }

  #judged(reports: Reports, worker: string, found: Preflight): Heard {
    const late = this.world.scenario.preflights?.failings;
    const fast = [...reports].filter(
      ([name, other]) =>
        name !== worker && late?.get(name) !== 'late' && other.found.matmulGflops > 4 * found.matmulGflops,
    );
    const isSlow = found.engineProblem === '' && fast.length >= FAST_OTHERS;
    return { found, bad: isSlow ? 'it is slow' : badOf(found) };
  }

  loads(host: CoordinatorHost, session: string): void {
    const worker = this.#workers.get(session) ?? '';
    if (this.world.scenario.preflights === undefined || this.#takenBack.has(worker)) return;
    const heard = this.#heard.get(host)?.get(worker);
    const complaint = heard === undefined ? 'it has not measured itself' : heard.bad;
    if (complaint !== '') throw new Violation('preflight', `${host.name}: ${worker} gets a job though ${complaint}`);
  }
}

/** A session begins anew: what was compared with others is not compared again. */
function repeat(reports: Reports, worker: string, found: Preflight | undefined): void {
  if (found === undefined || reports.get(worker)?.found.timeMs === found.timeMs) return;
  reports.set(worker, { found, bad: badOf(found) });
}

function badOf({ engineProblem }: Preflight): string {
  return engineProblem === '' ? '' : 'its engine does not start';
}
