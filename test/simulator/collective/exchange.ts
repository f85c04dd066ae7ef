/** What a run needs of the data plane around it. */
import type { PartialFacts } from '../../../worker/collective/data_plane.js';
import type { WorkerHost } from '../worker_host.js';
import type { Generation, Pull, Run } from './pulls.js';
import type { Shelf } from './shelf.js';

export interface Exchange {
  readonly host: WorkerHost;
  readonly shelf: Shelf;
  readonly generation: Generation;
  pull(pull: Pull): void;
  /** Pulls that wait here are looked at again. */
  wake(): void;
  peerFailed(rank: number, reason: string): void;
  /** The slot of the step holds the whole reduced vector; the run is over. */
  whole(run: Run, step: number, facts: PartialFacts): void;
}
