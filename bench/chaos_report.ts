/** What a storm came to, from the events of the job and the times of the faults. */
import { medianOf } from '../shared/median.js';
import type { JobEvent } from '../shared/wire/jobs.js';
import { FAULT_KINDS, type FaultKind } from './chaos_faults.js';
import type { Fault } from './chaos_storm.js';

type StepCommitted = Extract<JobEvent, { readonly kind: 'stepCommitted' }>;

/** A fault whose recovery was not seen is looked at for this long. */
const WINDOW_MS = 5000;
/** Steps after a change of leader that still count as affected by it. */
const STEPS_AFTER_CHANGE = 3;

/** How one fault that took a worker away was got over. All in milliseconds. */
export interface Recovery {
  readonly kind: FaultKind;
  readonly who: string;
  readonly step: number;
  /** The product's own measure, from its `recovered` event. */
  readonly pauseMs: number;
  /** The longest time between two commits from the fault to that event, less the median step. */
  readonly gapMs: number;
  /** From the fault to `worker_lost`, from there to `generation_started`, and from there to the next commit. */
  readonly noticedMs: number;
  readonly agreedMs: number;
  readonly finishedMs: number;
}

export interface Spread {
  readonly count: number;
  readonly median: number;
  readonly max: number;
}

export interface ChaosReport {
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  /** From commit to commit. */
  readonly medianStepMs: number;
  readonly recoveries: readonly Recovery[];
  readonly pauses: Spread;
  readonly gaps: Spread;
  /** Step times by kills of coordinators, as workers measured them: the longest around each kill, over the median step. */
  readonly coordinatorSteps: Spread;
  /** The longest time between two commits where no recovery was under way, less the median step: joins, and noise. */
  readonly longestOtherGapMs: number;
  /** Steps that were committed and had to be made again. */
  readonly stepsRedone: number;
  readonly generations: number;
}

export function spreadOf(values: readonly number[]): Spread {
  return { count: values.length, median: medianOf(values), max: Math.max(0, ...values) };
}

export function reportOf(events: readonly JobEvent[], faults: readonly Fault[]): ChaosReport {
  const steps = events.filter((event): event is StepCommitted => event.kind === 'stepCommitted');
  const medianStepMs = medianOf(steps.slice(1).map(({ timeMs }, index) => timeMs - (steps[index]?.timeMs ?? timeMs)));
  const medianMeasuredMs = medianOf(steps.map(({ stepMs }) => stepMs));
  const recoveries = faults.flatMap((fault) => recoveryOf(fault, { events, steps, medianStepMs }) ?? []);
  const found = new Set(recoveries.map(({ recovery }) => recovery));
  const windows = recoveries.map(({ fromMs, toMs }) => ({ fromMs, toMs }));
  const others = steps.slice(1).flatMap((step, index) => {
    const before = steps[index]?.timeMs ?? step.timeMs;
    // A new leader tells several steps at once: what lies between them says nothing about when they were committed.
    const told = faults.some(
      ({ kind, atMs }) => kind === 'coordinator' && before > atMs - 1000 && before < atMs + WINDOW_MS * 2,
    );
    const inside = windows.some(({ fromMs, toMs }) => step.timeMs > fromMs && before < toMs);
    return inside || told ? [] : [step.timeMs - before - medianStepMs];
  });
  return {
    faults: Object.fromEntries(
      FAULT_KINDS.flatMap((kind) => {
        const count = faults.filter((fault) => fault.kind === kind).length;
        return count === 0 ? [] : [[kind, count]];
      }),
    ),
    medianStepMs,
    recoveries: [...found],
    pauses: spreadOf([...found].map(({ pauseMs }) => pauseMs)),
    gaps: spreadOf([...found].map(({ gapMs }) => gapMs)),
    coordinatorSteps: spreadOf(
      faults.flatMap((fault) =>
        fault.kind === 'coordinator' ? longestStep(fault, events, steps) / medianMeasuredMs : [],
      ),
    ),
    longestOtherGapMs: Math.max(0, ...others),
    stepsRedone: stepsRedone(events),
    generations: events.filter(({ kind }) => kind === 'generationStarted').length,
  };
}

interface Course {
  readonly events: readonly JobEvent[];
  readonly steps: readonly StepCommitted[];
  readonly medianStepMs: number;
}

/** undefined for a fault that took nobody away. */
function recoveryOf(
  { kind, who, worker, step, atMs }: Fault,
  { events, steps, medianStepMs }: Course,
): { readonly recovery: Recovery; readonly fromMs: number; readonly toMs: number } | undefined {
  if (worker === '') return undefined;
  const later = events.filter(({ timeMs }) => timeMs >= atMs && timeMs < atMs + WINDOW_MS);
  const lost = later.find((event) => event.kind === 'workerLost' && event.worker === worker);
  if (lost === undefined) return undefined;
  const after = later.slice(later.indexOf(lost));
  const recovered = after.find((event) => event.kind === 'recovered');
  const started = after.find((event) => event.kind === 'generationStarted' && !event.workers.includes(worker));
  if (recovered?.kind !== 'recovered' || started === undefined) return undefined;
  const gaps = steps.slice(1).flatMap((event, index) => {
    const before = steps[index]?.timeMs ?? event.timeMs;
    return event.timeMs > atMs && before < recovered.timeMs ? [event.timeMs - before] : [];
  });
  return {
    fromMs: atMs,
    toMs: recovered.timeMs,
    recovery: {
      kind,
      who,
      step,
      pauseMs: recovered.pauseMs,
      gapMs: Math.max(0, Math.max(0, ...gaps) - medianStepMs),
      noticedMs: lost.timeMs - atMs,
      agreedMs: started.timeMs - lost.timeMs,
      finishedMs: recovered.timeMs - started.timeMs,
    },
  };
}

function longestStep({ step, atMs }: Fault, events: readonly JobEvent[], steps: readonly StepCommitted[]): number {
  const changed = events.find((event) => event.kind === 'leaderChanged' && event.timeMs >= atMs);
  const told = changed === undefined ? steps.length : steps.filter(({ timeMs }) => timeMs <= changed.timeMs).length;
  const last = Math.max(step, told) + STEPS_AFTER_CHANGE;
  return Math.max(0, ...steps.filter((one) => one.step >= step && one.step <= last).map(({ stepMs }) => stepMs));
}

/** A generation that begins below what had been committed makes steps again. */
function stepsRedone(events: readonly JobEvent[]): number {
  let committed = 0;
  let redone = 0;
  for (const event of events) {
    if (event.kind === 'stepCommitted') committed = event.step + 1;
    if (event.kind === 'generationStarted') redone += Math.max(0, committed - event.step);
  }
  return redone;
}
