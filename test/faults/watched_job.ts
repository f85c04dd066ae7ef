/** A job of a cluster under test, and everything that it was heard to do. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { CliError, exitCodes } from '../../cli/exit_codes.js';
import type { JobsClient } from '../../cli/jobs_client.js';
import { medianOf } from '../../shared/median.js';
import type { AuditReport, JobEvent } from '../../shared/wire/jobs.js';
import { until } from './until.js';

type EventOf<K extends JobEvent['kind']> = Extract<JobEvent, { readonly kind: K }>;

export interface Heard {
  readonly event: JobEvent;
  /** When it was heard here, by performance.now(). */
  readonly atMs: number;
}

export class WatchedJob {
  readonly heard: Heard[] = [];
  /** What was heard and is not a committed step. */
  readonly notable: Heard[] = [];
  #failure: unknown;
  #committed = 0;
  #end: EventOf<'jobFinished'> | undefined;

  constructor(
    readonly client: JobsClient,
    readonly job: string,
    /** Folder with the task's code. */
    readonly bundle: string,
  ) {
    this.#watch().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  /** Through changes of leader, and through times when nobody leads. */
  async #watch(): Promise<void> {
    for (let next = 1; this.end === undefined; ) {
      try {
        for await (const event of this.client.watch(this.job, next, true)) {
          next = event.sequence + 1;
          this.#hear(event);
        }
      } catch (error) {
        if (!(error instanceof CliError) || error.exitCode !== exitCodes.unreachable) throw error;
      }
    }
  }

  #hear(event: JobEvent): void {
    // A new leader says again what the old one had said and not yet stored.
    if (event.kind === 'stepCommitted' && event.step < this.#committed) return;
    const heard = { event, atMs: performance.now() };
    this.heard.push(heard);
    if (event.kind === 'stepCommitted') this.#committed = event.step + 1;
    else this.notable.push(heard);
    if (event.kind === 'jobFinished') this.#end = event;
  }

  /** The last step that an engine has applied, as the engine itself notes it; -1 before the first. */
  get applied(): number {
    const path = join(this.bundle, 'applied');
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : -1;
  }

  events<K extends JobEvent['kind']>(kind: K): readonly EventOf<K>[] {
    return this.heard.flatMap(({ event }) => (isOfKind(event, kind) ? [event] : []));
  }

  get end(): EventOf<'jobFinished'> | undefined {
    return this.#end;
  }

  /** Steps committed, as far as was heard. */
  get committed(): number {
    return this.#committed;
  }

  /** The next event of this kind, after the first `skip` events of the job, that passes. */
  untilEvent<K extends JobEvent['kind']>(
    kind: K,
    limitMs: number,
    passes: (event: EventOf<K>) => boolean = () => true,
    skip = 0,
  ): Promise<EventOf<K>> {
    return this.#until(
      () => {
        for (const { event } of this.heard.slice(skip)) if (isOfKind(event, kind) && passes(event)) return event;
        return undefined;
      },
      { limitMs, what: `${kind} of job ${this.job}` },
    );
  }

  /** Any event that is not a committed step, after the first `skip` of those, that passes. */
  untilNotable(skip: number, passes: (event: JobEvent) => boolean, limitMs = 60_000): Promise<JobEvent> {
    const look = () => this.notable.slice(skip).find(({ event }) => passes(event))?.event;
    return this.#until(look, { limitMs, what: `an event of job ${this.job}` });
  }

  untilCommitted(steps: number, limitMs: number): Promise<boolean> {
    return this.#until(() => this.committed >= steps, { limitMs, what: `${steps} steps of job ${this.job}` });
  }

  untilEnd(limitMs: number): Promise<EventOf<'jobFinished'>> {
    return this.#until(() => this.end, { limitMs, what: `the end of job ${this.job}` });
  }

  /** A generation with exactly these workers is heard of, after the first `skip` events. */
  untilRoster(workers: readonly string[], limitMs: number, skip = 0): Promise<EventOf<'generationStarted'>> {
    return this.untilEvent('generationStarted', limitMs, (event) => isDeepStrictEqual(event.workers, workers), skip);
  }

  audit(): Promise<AuditReport> {
    return this.client.audit(this.job);
  }

  get medianStepMs(): number {
    return medianOf(this.events('stepCommitted').map((event) => event.stepMs));
  }

  /** Times between the commits of neighbouring steps, by the coordinator's clock. */
  gapsMs(): readonly { readonly step: number; readonly gapMs: number }[] {
    const steps = this.events('stepCommitted');
    return steps
      .slice(1)
      .map((event, index) => ({ step: event.step, gapMs: event.timeMs - (steps[index]?.timeMs ?? 0) }));
  }

  /** Events that are not steps, one a line, for the messages of failed tests. */
  story(): string {
    return this.notable
      .map(({ event }) => JSON.stringify(event, (_, value: unknown) => (value instanceof Map ? [...value] : value)))
      .join('\n');
  }

  async #until<T>(look: () => T | undefined | false, waiting: { limitMs: number; what: string }): Promise<T> {
    try {
      return await until(() => {
        if (this.#failure !== undefined) throw this.#failure;
        return look();
      }, waiting);
    } catch (error) {
      throw new Error(`${String(error)}; ${this.committed} steps were committed; heard:\n${this.story()}`);
    }
  }
}

function isOfKind<K extends JobEvent['kind']>(event: JobEvent, kind: K): event is EventOf<K> {
  return event.kind === kind;
}
