/** The worker's side of its pre-flight: it measures its machine when it is told to, and lets go of that as soon as there is work. */
import type { Preflight } from '../../shared/wire/jobs.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { WorkerState } from './state.js';
import { send, type Turn } from './turn.js';

type Message<K extends CoordinatorMessage['kind']> = Extract<CoordinatorMessage, { kind: K }>;

/** One that is under way answers whoever leads when it is over. It takes the peers that it was told last. */
export function measure(turn: Turn, { peers }: Message<'measure'>): void {
  const { state } = turn;
  if (!state.identity.measures || state.run !== undefined || state.leaving) return;
  turn.commands.push({ kind: state.measuring ? 'name_peers' : 'measure', peers });
  state.measuring = true;
}

/** Work comes first. */
export function stopMeasuring(turn: Turn): void {
  if (!turn.state.measuring) return;
  turn.state.measuring = false;
  turn.commands.push({ kind: 'stop_measuring' });
}

export function measured(turn: Turn, preflight: Preflight): void {
  const { state } = turn;
  if (!state.measuring) return;
  state.measuring = false;
  state.preflight = preflight;
  state.verdict = undefined;
  send(turn, { kind: 'measured', preflight });
}

export function judged(state: WorkerState, { marked }: Message<'verdict'>): void {
  if (state.preflight !== undefined) state.verdict = { marked };
}
