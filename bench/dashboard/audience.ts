/** The pages that look: those that read what they are given, and one that is frozen as soon as it has its first snapshot. */
import type { CleanUp } from '../clean_up.js';
import { Beside } from './beside.js';
import type { Ground } from './ground.js';
import { type PagesClosed, type PagesOrder, pagesNews } from './messages.js';

const OPEN_MS = 20_000;

export interface Looking {
  /** Closes all of them. */
  close(): Promise<PagesClosed>;
}

export class Audience {
  readonly #reading = new Beside<PagesOrder>('pages');
  readonly #count: number;
  readonly #cleanUp: CleanUp;

  /** `count`: with the frozen one. */
  constructor(count: number, cleanUp: CleanUp) {
    this.#count = count;
    this.#cleanUp = cleanUp;
    cleanUp.add(() => this.#reading.stop());
  }

  /** Of those that read. */
  get cpuMs(): number {
    return this.#reading.cpuMs;
  }

  async open(ground: Ground): Promise<Looking> {
    const frozen = new Beside<PagesOrder>('pages');
    const stopFrozen = this.#cleanUp.add(() => frozen.stop());
    await openPages(frozen, ground, 1);
    frozen.freeze();
    await openPages(this.#reading, ground, this.#count - 1);
    return {
      close: async () => {
        this.#reading.tell({ kind: 'close' });
        const said = pagesNews.parse(await this.#reading.hear(OPEN_MS));
        await stopFrozen();
        if (said.kind !== 'closed') throw new Error('the pages were opened twice');
        return said;
      },
    };
  }
}

/** Every second one looks at the job that trains, the others at one that makes events. */
async function openPages(pages: Beside<PagesOrder>, ground: Ground, count: number): Promise<void> {
  const jobs = [ground.training.job, ground.sourceJobs[0] ?? ground.training.job];
  pages.tell({ kind: 'open', url: ground.ready.dashboard, pages: count, jobs });
  await pages.hear(OPEN_MS);
}
