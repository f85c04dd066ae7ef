/** What an engine answers, without any tensor: every operation takes a fixed time, or none, one after the other. */
import { setTimeout as delay } from 'node:timers/promises';
import { consumedDigest } from '../../shared/consumption.js';
import { type PlanShape, planStep } from '../../shared/plan.js';
import type { EngineCommand, EngineEvent } from '../../worker/core/engine_protocol.js';

export const ELEMENTS = 1_000_000;
export const DATASET_LENGTH = 1_000_000;
const START_MS = 50;
/** A microbatch. */
const COMPUTE_MS = 10;
const STATE_MS = 20;
const OTHER_MS = 1;
/** Of a job: its engines are apart by a step or two. */
const STEPS_KEPT = 8;
const DIGEST = '0'.repeat(64);

interface Consumed {
  readonly step: number;
  readonly digests: readonly string[];
}

const newest = new Map<string, Consumed[]>();

/** What the engines of a job consume in a step, a digest a microbatch: the same for all of them, so it is computed once a process. */
export function consumedIn(job: string, shape: PlanShape, step: number): readonly string[] {
  const steps = newest.get(job) ?? [];
  newest.set(job, steps);
  const known = steps[step % STEPS_KEPT];
  if (known?.step === step) return known.digests;
  const digests = planStep(shape, step).samples.map(consumedDigest);
  steps[step % STEPS_KEPT] = { step, digests };
  return digests;
}

export interface SimulatedEngineOptions {
  readonly job: string;
  readonly shape: PlanShape;
  /** A step takes no time: it is answered before `tell` returns. */
  readonly prompt: boolean;
  readonly onEvent: (event: EngineEvent) => void;
  readonly onExit: () => void;
}

export class SimulatedEngine {
  readonly #options: SimulatedEngineOptions;
  #alive = true;
  #last: Promise<void>;
  /** Operations that have not been answered. */
  #underWay = 0;

  constructor(options: SimulatedEngineOptions) {
    this.#options = options;
    this.#last = this.#say(START_MS, [
      { event: 'started', pid: 1, torch: '2', python: '3', device: 'cpu', fingerprint: DIGEST },
    ]);
  }

  tell(command: EngineCommand): void {
    const isStep = command.command === 'compute' || command.command === 'apply';
    if (this.#options.prompt && isStep && this.#underWay === 0) this.#sayNow(this.#answersTo(command));
    else this.#sayLater(command);
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    setImmediate(this.#options.onExit);
  }

  /** Nothing more is said, not even that it has ended. */
  vanish(): void {
    this.#alive = false;
  }

  #sayLater(command: EngineCommand): void {
    this.#underWay += 1;
    this.#last = this.#last.then(async () => {
      await this.#say(timeOf(command), this.#answersTo(command));
      this.#underWay -= 1;
    });
  }

  async #say(afterMs: number, events: readonly EngineEvent[]): Promise<void> {
    await delay(afterMs);
    this.#sayNow(events);
  }

  #sayNow(events: readonly EngineEvent[]): void {
    for (const event of events) if (this.#alive) this.#options.onEvent(event);
  }

  #answersTo(command: EngineCommand): readonly EngineEvent[] {
    switch (command.command) {
      case 'load':
        return [
          {
            event: 'loaded',
            vector_bytes: 4 * ELEMENTS,
            bf16_bytes: 0,
            parameters: ELEMENTS,
            dataset_length: DATASET_LENGTH,
            dataset_digest: DIGEST,
          },
        ];
      case 'compute':
        return this.#computed(command);
      case 'apply':
        return [
          {
            event: 'applied',
            step: command.step,
            grad_norm: 1,
            lr: 0.1,
            skipped: false,
            apply_ms: OTHER_MS,
            device_memory: null,
          },
        ];
      case 'digest':
        return [{ event: 'digest', weights: DIGEST, state: DIGEST }];
      case 'evaluate':
        return [{ event: 'evaluated', metrics: {} }];
      case 'finish':
        return [{ event: 'finished' }];
      case 'export_model':
        return [{ event: 'exported', bytes: 1, sha256: DIGEST }];
      case 'export_state':
        return [{ event: 'state_exported', bytes: 1, sha256: DIGEST }];
      case 'snapshot':
        return [{ event: 'snapshot_taken', bytes: 1, copy_ms: OTHER_MS }];
      case 'import_state':
        return [{ event: 'state_imported', state: DIGEST }];
      case 'stop':
        return [];
    }
  }

  #computed({ step, runs }: Extract<EngineCommand, { command: 'compute' }>): readonly EngineEvent[] {
    const { job, shape } = this.#options;
    const consumed = consumedIn(job, shape, step);
    const partials = runs.map(
      ({ lo, length }): EngineEvent => ({
        event: 'partial',
        step,
        lo,
        length,
        loss: length,
        weight: length,
        consumed: consumed.slice(lo, lo + length),
        data_ms: 0,
        compute_ms: length * COMPUTE_MS,
      }),
    );
    return [...partials, { event: 'computed', step }];
  }
}

function timeOf(command: EngineCommand): number {
  switch (command.command) {
    case 'compute':
      return COMPUTE_MS * command.runs.reduce((sum, run) => sum + run.length, 0);
    case 'export_state':
    case 'import_state':
      return STATE_MS;
    default:
      return OTHER_MS;
  }
}
