/**
 * Histories of jobs. A lineage is the sequence of gradients that the generations of a job committed, and the weights that follow.
 *
 * There is one lineage a job, unless the furthest workers are all lost and a generation begins before the end of what they had, or restores
 * a checkpoint: then the history forks there. In a strict job both branches are the same numbers; in a loose one they differ, and no worker
 * may mix them.
 */
import type { StateContent } from './checkpoint/image.js';
import { applied } from './reference.js';
import type { JobPlan } from './scenario.js';

export class Lineage {
  readonly gradients: number[];
  readonly weights: number[];

  constructor(weights: readonly number[], gradients: readonly number[]) {
    this.weights = [...weights];
    this.gradients = [...gradients];
  }

  get committed(): number {
    return this.gradients.length;
  }

  fork(committed: number): Lineage {
    return new Lineage(this.weights.slice(0, committed + 1), this.gradients.slice(0, committed));
  }

  agreesWith(other: Lineage, committed: number): boolean {
    return this === other || this.weights[committed] === other.weights[committed];
  }

  append(gradient: number): void {
    this.weights.push(applied(this.weights[this.committed] ?? Number.NaN, gradient));
    this.gradients.push(gradient);
  }
}

export class JobHistory {
  readonly lineages: Lineage[] = [];
  /** By job and generation: a job and one that continues it have one history. */
  readonly #byGeneration = new Map<string, Lineage>();
  readonly #firsts = new Map<number, Lineage>();

  constructor(readonly plan: JobPlan) {}

  /** The beginning of a history, on the kind of machine that `worker` is. */
  firstOf(worker: string): Lineage {
    const weights = this.plan.initialWeightsOn(worker);
    let first = this.#firsts.get(weights);
    if (first === undefined) {
      first = new Lineage([weights], []);
      this.#firsts.set(weights, first);
      this.lineages.push(first);
    }
    return first;
  }

  fork(from: Lineage, committed: number): Lineage {
    const lineage = from.fork(committed);
    this.lineages.push(lineage);
    return lineage;
  }

  ofGeneration(job: string, generation: number): Lineage | undefined {
    return this.#byGeneration.get(`${job} ${generation}`);
  }

  place(job: string, generation: number, lineage: Lineage): void {
    this.#byGeneration.set(`${job} ${generation}`, lineage);
  }

  /** The newest history that had this state. */
  having({ committed, weights }: StateContent): Lineage | undefined {
    return this.lineages.findLast((lineage) => lineage.weights[committed] === weights);
  }
}
