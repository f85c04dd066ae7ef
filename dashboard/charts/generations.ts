/** Who took part when, from the events of a job. Pure. */
import type { EventRow } from '../../shared/wire/dashboard.js';

export interface Generation {
  readonly generation: number;
  /** The step from which it went on. */
  readonly step: number;
  readonly workers: readonly string[];
  readonly reason: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** A worker in one generation: it ends before the generation's end if the worker was lost. */
export interface Presence {
  readonly worker: string;
  readonly generation: number;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Loss {
  readonly worker: string;
  readonly timeMs: number;
  readonly detectedBy: string;
  readonly detectMs: number;
}

export interface Pause {
  readonly generation: number;
  readonly step: number;
  readonly fromMs: number;
  readonly toMs: number;
}

export interface Membership {
  readonly workers: readonly string[];
  readonly generations: readonly Generation[];
  readonly presences: readonly Presence[];
  readonly losses: readonly Loss[];
  readonly pauses: readonly Pause[];
  readonly fromMs: number;
  readonly toMs: number;
}

/** The generation that the coordinator says is the newest, whatever events it knows. */
export interface Newest {
  readonly generation: number;
  readonly roster: readonly string[];
}

/** `beganMs`: of what is known of the job. `toMs`: now, or the job's end. */
export function membershipOf(newest: Newest, events: readonly EventRow[], beganMs: number, toMs: number): Membership {
  const losses = events.flatMap((event) => (event.kind === 'workerLost' ? [lossOf(event)] : []));
  const generations = generationsOf(newest, events, beganMs, toMs);
  const presences = generations.flatMap((one) => presencesIn(one, losses));
  const names = new Set([...generations.flatMap((one) => one.workers), ...losses.map((one) => one.worker)]);
  return {
    workers: [...names].sort((left, right) => left.localeCompare(right, 'en', { numeric: true })),
    generations,
    presences,
    losses,
    pauses: events.flatMap((event) => (event.kind === 'recovered' ? [pauseOf(event)] : [])),
    fromMs: Math.min(beganMs, generations[0]?.fromMs ?? beganMs),
    toMs,
  };
}

function lossOf({ worker, timeMs, detectedBy, detectMs }: Extract<EventRow, { kind: 'workerLost' }>): Loss {
  return { worker, timeMs, detectedBy, detectMs };
}

function pauseOf({ generation, step, timeMs, pauseMs }: Extract<EventRow, { kind: 'recovered' }>): Pause {
  return { generation, step, fromMs: timeMs - pauseMs, toMs: timeMs };
}

function generationsOf(
  newest: Newest,
  events: readonly EventRow[],
  beganMs: number,
  toMs: number,
): readonly Generation[] {
  const started = events.flatMap((event) => (event.kind === 'generationStarted' ? [event] : []));
  const first = started[0]?.timeMs ?? toMs;
  // A new leader knows who takes part, and not since when.
  const adopted =
    started.length === 0 && newest.generation > 0
      ? [{ generation: newest.generation, step: 0, workers: newest.roster, reason: '', fromMs: beganMs, toMs: first }]
      : [];
  return [
    ...adopted,
    ...started.map(({ generation, step, workers, reason, timeMs }, index) => ({
      generation,
      step,
      workers,
      reason,
      fromMs: timeMs,
      toMs: started[index + 1]?.timeMs ?? toMs,
    })),
  ];
}

function presencesIn({ generation, workers, fromMs, toMs }: Generation, losses: readonly Loss[]): readonly Presence[] {
  return workers.map((worker) => {
    const lost = losses.find((one) => one.worker === worker && one.timeMs >= fromMs && one.timeMs < toMs);
    return { worker, generation, fromMs, toMs: lost?.timeMs ?? toMs };
  });
}
