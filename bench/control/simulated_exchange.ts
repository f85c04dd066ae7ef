/**
 * The data planes of all simulated workers of a process. No bytes move: a step is reduced when the benchmark says so, which counts the
 * members of each generation over all processes.
 */
import type { CoreDataPlaneCommand } from '../../worker/core/command.js';
import type { WorkerEvent } from '../../worker/core/event.js';
import type { News } from './messages.js';

type DataPlaneEvent = Extract<WorkerEvent, { kind: 'data_plane_event' }>['event'];
type Reduced = Extract<DataPlaneEvent, { kind: 'reduced' }>;
type Reducing = Extract<News, { kind: 'reducing' }>;

const FETCH_REDUCED_MS = 5;
const FETCH_STATE_MS = 30;

/** What the exchange knows of a worker. */
export interface ExchangeMember {
  readonly dispatch: (event: DataPlaneEvent) => void;
  /** What a reduced step of the job comes with. */
  readonly factsOf: (step: number) => Reduced['facts'];
}

/** What a simulated worker needs of the data planes. */
export interface Exchange {
  tell(member: ExchangeMember, command: CoreDataPlaneCommand): void;
  forget(member: ExchangeMember): void;
}

interface Place {
  readonly job: string;
  readonly generation: number;
  readonly members: number;
  /** The step that it waits for. */
  step: number | undefined;
}

export class SimulatedExchange implements Exchange {
  readonly #places = new Map<ExchangeMember, Place>();
  /** What has not been said yet. */
  readonly #reducing = new Map<string, Reducing>();

  constructor(private readonly tellBenchmark: (news: News) => void) {}

  tell(member: ExchangeMember, command: CoreDataPlaneCommand): void {
    switch (command.kind) {
      case 'start_generation': {
        const { job, generation, roster } = command;
        this.#places.set(member, { job, generation, members: roster.length, step: undefined });
        break;
      }
      case 'stop_generation':
      case 'close_job':
        this.forget(member);
        break;
      case 'reduce':
        this.#waits(this.#places.get(member), command.step);
        break;
      case 'fetch_reduced':
        this.#later(member, FETCH_REDUCED_MS, (place) => tellReduced(member, place, command.step));
        break;
      case 'fetch_state':
        this.#later(member, FETCH_STATE_MS, ({ job, generation }) =>
          member.dispatch({ kind: 'state_fetched', job, generation, committed: command.committed, bytes: 1 }),
        );
        break;
      default:
        break;
    }
  }

  forget(member: ExchangeMember): void {
    this.#places.delete(member);
  }

  reduced(job: string, generation: number, step: number): void {
    for (const [member, place] of [...this.#places]) {
      if (place.job !== job || place.generation !== generation || place.step !== step) continue;
      place.step = undefined;
      tellReduced(member, place, step);
    }
  }

  #later(member: ExchangeMember, afterMs: number, act: (place: Place) => void): void {
    const place = this.#places.get(member);
    setTimeout(() => {
      if (place !== undefined && this.#places.get(member) === place) act(place);
    }, afterMs);
  }

  #waits(place: Place | undefined, step: number): void {
    if (place === undefined) return;
    place.step = step;
    const { job, generation, members } = place;
    const key = `${job}/${generation}/${step}`;
    const more = (this.#reducing.get(key)?.more ?? 0) + 1;
    if (this.#reducing.size === 0) setImmediate(() => this.#flush());
    this.#reducing.set(key, { kind: 'reducing', job, generation, step, members, more });
  }

  #flush(): void {
    for (const news of this.#reducing.values()) this.tellBenchmark(news);
    this.#reducing.clear();
  }
}

/** The member's step is reduced. */
export function tellReduced(
  member: ExchangeMember,
  { job, generation }: { readonly job: string; readonly generation: number },
  step: number,
): void {
  const facts = member.factsOf(step);
  member.dispatch({ kind: 'reduced', job, generation, step, facts, pulledBytes: 1, gatherMs: 0 });
}
