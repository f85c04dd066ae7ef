import { expect, it } from 'vitest';
import { apply } from '../../../coordinator/core/apply.js';
import { nodesView } from '../../../coordinator/core/views.js';
import { nodeRows } from '../../../coordinator/web/rows.js';
import type { WorkerMessage } from '../../../shared/wire/session.js';
import { addWorker, leadingState } from './known_jobs.js';

const HEARTBEAT = { enginePid: 7, committed: 0, microbatchMs: 0, restoredPieces: 0, loopDelayMs: 0 };
const UNKNOWN = { engineCores: null, engineBytes: null, hostUsedBytes: null, deviceUsedBytes: null, deviceBytes: null };

it('a worker is shown with what its newest heartbeat says that is used', () => {
  const state = leadingState();
  addWorker(state, 'w1');
  state.sessions.set('s-w1', 'w1');
  const say = (message: WorkerMessage): void => {
    apply(state, { nowMs: 0, wallMs: 0, event: { kind: 'session_message', session: 's-w1', message } });
  };
  expect(nodeRows(state, 0)).toMatchObject([{ ...UNKNOWN, cpus: 1, hostBytes: 2 ** 30 }]);
  const device = { usedBytes: 3_210_000_000, totalBytes: 85_899_345_920 };
  const engineUsage = { memoryBytes: 412_345_678, cores: 1.4567, device };
  say({ kind: 'heartbeat', ...HEARTBEAT, engineUsage, hostUsedBytes: 2_987_654_321 });
  // A page is told only what people can read.
  expect(nodeRows(state, 0)).toMatchObject([
    {
      ...{ engineCores: 1.5, engineBytes: 410_000_000, hostUsedBytes: 3_000_000_000 },
      ...{ deviceUsedBytes: 3_200_000_000, deviceBytes: 85_899_345_920 },
    },
  ]);
  expect(nodesView(state, 0)).toMatchObject([{ engineUsage, hostUsedBytes: 2_987_654_321 }]);
  // The engine is gone, or the worker is one that says nothing of it.
  say({ kind: 'heartbeat', ...HEARTBEAT });
  expect(nodeRows(state, 0)).toMatchObject([UNKNOWN]);
});
