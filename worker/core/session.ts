/** The worker's side of a session: hello, heartbeats, and what is said again when a new one begins. */

import { medianOf } from '../../shared/median.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { PrintedLine } from './event.js';
import { resendReports } from './generation.js';
import type { JobRun } from './state.js';
import { holdingOf, send, type Turn } from './turn.js';

const LINES_KEPT = 2_000;
/** Of 8 Ki characters each, with three bytes a character, they fit the 4 MiB of a message. */
const LINES_A_MESSAGE = 128;

export function opened(turn: Turn): void {
  const { identity, term, run } = turn.state;
  turn.state.session = 'greeting';
  turn.commands.push({
    kind: 'send',
    message: { kind: 'hello', ...identity, term, holding: run === undefined ? undefined : holdingOf(run) },
  });
}

export function welcomed(turn: Turn, message: Extract<CoordinatorMessage, { kind: 'welcome' }>): void {
  turn.state.session = 'up';
  turn.state.heartbeatMs = message.heartbeatMs;
  const { run } = turn.state;
  if (run !== undefined) {
    resendReports(turn, run, 0);
    if (run.lastDigest !== undefined) send(turn, run.lastDigest);
    if (run.healing?.failure !== undefined && run.started) send(turn, run.healing.failure);
  }
  if (turn.state.leaving) send(turn, { kind: 'leaving' });
  sendLines(turn);
}

/** Says that this worker leaves, and goes at once if it holds nothing. */
export function stopRequested(turn: Turn): void {
  turn.state.leaving = true;
  if (turn.state.run === undefined) turn.commands.push({ kind: 'exit' });
  else send(turn, { kind: 'leaving' });
}

export function heartbeat(turn: Turn, loopDelayMs: number): void {
  if (turn.nowMs - turn.state.heartbeatSentMs < turn.state.heartbeatMs) return;
  turn.state.heartbeatSentMs = turn.nowMs;
  const { run } = turn.state;
  send(turn, {
    kind: 'heartbeat',
    enginePid: run?.enginePid ?? 0,
    committed: run?.committed ?? 0,
    microbatchMs: medianOf(run?.microbatchTimesMs ?? []),
    restoredPieces: run?.restoredPieces ?? 0,
    loopDelayMs,
  });
}

export function printed(turn: Turn, run: JobRun, lines: readonly PrintedLine[]): void {
  for (const line of lines) turn.state.lines.push({ job: run.job, line });
  const surplus = turn.state.lines.length - LINES_KEPT;
  if (surplus > 0) turn.state.lines.splice(0, surplus);
  sendLines(turn);
}

function sendLines(turn: Turn): void {
  if (turn.state.session !== 'up') return;
  while (turn.state.lines.length > 0) {
    const job = turn.state.lines[0]?.job ?? '';
    const end = turn.state.lines.findIndex((entry) => entry.job !== job);
    const count = Math.min(end < 0 ? turn.state.lines.length : end, LINES_A_MESSAGE);
    const lines = turn.state.lines.splice(0, count).map((entry) => entry.line);
    send(turn, { kind: 'logLines', job, lines });
  }
}
