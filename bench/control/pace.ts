/** When simulated workers commit: once every member of a generation waits for a step, and not sooner than the step's time after the last. */
import { monotonicMs, type News } from './messages.js';

type Reducing = Extract<News, { kind: 'reducing' }>;

/** A step that is redone after a change of membership is not reduced before it can have been computed. */
const COMPUTE_MS = 20;

interface JobPace {
  generation: number;
  step: number;
  waiting: number;
  lastMs: number;
}

export class Pace {
  readonly #jobs = new Map<string, JobPace>();

  constructor(
    private readonly stepMs: number,
    private readonly reduced: (job: string, generation: number, step: number) => void,
  ) {}

  reducing({ job, generation, step, members, more }: Reducing): void {
    const pace = this.#jobs.get(job) ?? { generation, step, waiting: 0, lastMs: 0 };
    this.#jobs.set(job, pace);
    if (generation < pace.generation || (generation === pace.generation && step < pace.step)) return;
    if (generation > pace.generation || step > pace.step) Object.assign(pace, { generation, step, waiting: 0 });
    pace.waiting += more;
    if (pace.waiting < members) return;
    const atMs = Math.max(pace.lastMs + this.stepMs, monotonicMs() + COMPUTE_MS);
    pace.lastMs = atMs;
    setTimeout(() => this.reduced(job, generation, step), atMs - monotonicMs());
  }
}
