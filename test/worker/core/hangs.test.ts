/** How long an engine may compute before it is taken for one that hangs. */
import { expect, it } from 'vitest';
import type { EngineEvent } from '../../../worker/core/engine_protocol.js';
import { NO_USAGE } from '../../../worker/core/event.js';
import { LoneWorker } from './lone_worker.js';

const CONSUMED = '0'.repeat(16);
const partial: EngineEvent = {
  ...{ event: 'partial', step: 0, lo: 0, length: 2, loss: 1, weight: 4 },
  ...{ consumed: [CONSUMED, CONSUMED], data_ms: 0, compute_ms: 1 },
};
const applied: EngineEvent = {
  ...{ event: 'applied', step: 0, grad_norm: null, lr: 1, skipped: false, apply_ms: 1, device_memory: null },
};

function computing(): LoneWorker {
  const worker = new LoneWorker();
  worker.load({ vectorBytes: 64, bf16Bytes: 0 });
  worker.begin(1);
  return worker;
}

function afterFirstStep(): LoneWorker {
  const worker = computing();
  worker.engine(partial);
  worker.engine({ event: 'computed', step: 0 });
  const facts = { loss: 1, weight: 4, consumed: [CONSUMED, CONSUMED] };
  worker.happen({
    kind: 'data_plane_event',
    event: { kind: 'reduced', job: 'j', generation: 1, step: 0, facts, pulledBytes: 0, gatherMs: 0 },
  });
  worker.engine(applied);
  expect(worker.outstanding).toEqual(['compute']);
  return worker;
}

/** The reasons for which the engine has failed by then. */
function failuresAt(worker: LoneWorker, seconds: number): readonly string[] {
  worker.nowMs = seconds * 1000;
  worker.happen({ kind: 'ticked', loopDelayMs: 0, usage: NO_USAGE });
  return worker.said('engineFailed').map(({ message }) => message);
}

it('an engine may take two minutes for its first step, in which code is compiled', () => {
  const worker = computing();
  expect(failuresAt(worker, 119)).toEqual([]);
  expect(failuresAt(worker, 121)).toEqual(['the engine has not answered compute for 121 s']);
});

it('then half a minute for a microbatch, where steps are short', () => {
  const worker = afterFirstStep();
  expect(failuresAt(worker, 29)).toEqual([]);
  expect(failuresAt(worker, 31)).toEqual(['the engine has not answered compute for 31 s']);
});

it('but a step may have many of them', () => {
  const worker = afterFirstStep();
  expect(failuresAt(worker, 29)).toEqual([]);
  worker.engine({ event: 'microbatch', step: 1 });
  expect(failuresAt(worker, 58)).toEqual([]);
  expect(worker.outstanding).toEqual(['compute']);
  expect(failuresAt(worker, 60)).toEqual(['the engine has not answered compute for 31 s']);
});
