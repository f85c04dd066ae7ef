/** Who took part when, from the events of a job. Pure. */
import type { EventRow } from '../../shared/wire/dashboard.js';

export interface Generation {
  /** Undefined for one that began under another leader, which is known by what came after it. */
  readonly generation: number | undefined;
  /** The step from which it went on. */
  readonly step: number | undefined;
  readonly workers: readonly string[];
  readonly reason: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** A worker in one generation: it ends before the generation's end if the worker was lost, or let go. */
export interface Presence {
  readonly worker: string;
  readonly generation: number | undefined;
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
  const left = events.filter((event) => event.kind === 'workerLost' || event.kind === 'workerReleased');
  const presences = generations.flatMap((one) => presencesIn(one, left));
  const pauses = events.flatMap((event) => (event.kind === 'recovered' ? [pauseOf(event)] : []));
  const names = new Set([...generations.flatMap((one) => one.workers), ...losses.map((one) => one.worker)]);
  const began = [generations[0]?.fromMs, losses[0]?.timeMs, pauses[0]?.fromMs].map((ms) => ms ?? beganMs);
  return {
    workers: [...names].sort((left, right) => left.localeCompare(right, 'en', { numeric: true })),
    generations,
    presences,
    losses,
    pauses,
    fromMs: Math.min(beganMs, ...began),
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
  return [
    ...adoptedOf(newest, events, beganMs, toMs),
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

/** A new leader knows who takes part, and not since when. */
function adoptedOf(newest: Newest, events: readonly EventRow[], beganMs: number, toMs: number): readonly Generation[] {
  const unknown = { step: undefined, reason: '', fromMs: beganMs };
  const first = events.find((event) => event.kind === 'generationStarted');
  if (first === undefined) {
    return newest.generation === 0 ? [] : [{ ...unknown, generation: newest.generation, workers: newest.roster, toMs }];
  }
  if (beganMs >= first.timeMs) return [];
  return [{ ...unknown, generation: undefined, workers: rosterBefore(first, events), toMs: first.timeMs }];
}

/** Back from a generation, by who came and went before it. */
function rosterBefore(
  first: Extract<EventRow, { kind: 'generationStarted' }>,
  events: readonly EventRow[],
): readonly string[] {
  const workers = new Set(first.workers);
  for (const event of events.slice(0, events.indexOf(first)).reverse()) {
    if (event.kind === 'workerJoined') workers.delete(event.worker);
    if (event.kind === 'workerLost' || event.kind === 'workerReleased') workers.add(event.worker);
  }
  return [...workers];
}

function presencesIn(
  { generation, workers, fromMs, toMs }: Generation,
  left: readonly { readonly worker: string; readonly timeMs: number }[],
): readonly Presence[] {
  return workers.map((worker) => {
    const end = left.find((one) => one.worker === worker && one.timeMs >= fromMs && one.timeMs < toMs);
    return { worker, generation, fromMs, toMs: end?.timeMs ?? toMs };
  });
}
