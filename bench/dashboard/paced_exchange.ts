/** The data planes of the source of events: each of its workers is alone in its job, and reduces a step when one is due. */
import type { CoreDataPlaneCommand } from '../../worker/core/command.js';
import { type Exchange, type ExchangeMember, tellReduced } from '../control/simulated_exchange.js';

interface Place {
  readonly job: string;
  readonly generation: number;
  /** The step that it waits for. */
  step: number | undefined;
}

export class PacedExchange implements Exchange {
  readonly #places = new Map<ExchangeMember, Place>();

  get members(): number {
    return this.#places.size;
  }

  tell(member: ExchangeMember, command: CoreDataPlaneCommand): void {
    if (command.kind === 'start_generation') {
      const { job, generation } = command;
      this.#places.set(member, { job, generation, step: undefined });
    }
    if (command.kind === 'stop_generation' || command.kind === 'close_job') this.forget(member);
    const place = this.#places.get(member);
    if (command.kind === 'reduce' && place !== undefined) place.step = command.step;
  }

  forget(member: ExchangeMember): void {
    this.#places.delete(member);
  }

  /** Every member makes so many steps, or as many as it can: a worker whose reports nobody takes waits. */
  release(steps: number): void {
    for (const [member, place] of this.#places) {
      for (let made = 0; made < steps && place.step !== undefined; made++) {
        const { step } = place;
        place.step = undefined;
        tellReduced(member, place, step);
      }
    }
  }
}
