/** The worker's side of a session: hello, heartbeats, and what is said again when a new one begins. */

import { medianOf } from '../../shared/median.js';
import { PROTOCOL } from '../../shared/protocol.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import type { WorkerEvent } from './event.js';
import { resendReports } from './generation.js';
import { replayPrints } from './prints.js';
import { holdingOf, send, type Turn } from './turn.js';

export function opened(turn: Turn): void {
  const { identity, term, run, preflight, verdict } = turn.state;
  turn.state.session = 'greeting';
  const holding = run === undefined ? undefined : holdingOf(run);
  const held = { term, holding, preflight, verdict };
  turn.commands.push({ kind: 'send', message: { kind: 'hello', protocol: PROTOCOL, ...identity, ...held } });
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
  replayPrints(turn);
}

/** Says that this worker leaves, and goes at once if it holds nothing. */
export function stopRequested(turn: Turn): void {
  turn.state.leaving = true;
  if (turn.state.run === undefined) turn.commands.push({ kind: 'exit' });
  else send(turn, { kind: 'leaving' });
}

export function heartbeat(turn: Turn, { loopDelayMs, usage }: Extract<WorkerEvent, { kind: 'ticked' }>): void {
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
    // What was seen of an engine may be older than the job.
    engineUsage: run && usage.engine && { ...usage.engine, device: run.deviceMemory },
    hostUsedBytes: usage.hostUsedBytes,
  });
}
