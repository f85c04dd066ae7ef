import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_USAGE } from '../../../worker/core/event.js';
import { LoneWorker } from './lone_worker.js';

const CONSUMED = ['0'.repeat(16), '0'.repeat(16)];

/** When a worker hears what, and what it hears of durations. */
interface Heard {
  /** After whatever was heard before, in this order. */
  readonly computedAfterMs: number;
  readonly reducedAfterMs: number;
  readonly appliedAfterMs: number;
  /** The engine's and the data plane's own figures. */
  readonly dataMs: number;
  readonly computeMs: number;
  readonly gatherMs: number;
  readonly applyMs: number;
}

/** Welcomed, and in a generation in which it is alone. */
function begun(): LoneWorker {
  const worker = new LoneWorker();
  worker.load({ vectorBytes: 4096, bf16Bytes: 0 });
  worker.coordinator({ kind: 'welcome', term: 1, coordinator: 'c1', heartbeatMs: 500 });
  worker.begin(1);
  return worker;
}

function makeStep(
  worker: LoneWorker,
  step: number,
  heard: Heard,
  device: { used: number; total: number } | null = null,
): void {
  worker.nowMs += heard.computedAfterMs;
  const ofEngine = { data_ms: heard.dataMs, compute_ms: heard.computeMs };
  worker.engine({ event: 'partial', step, lo: 0, length: 2, loss: 1, weight: 4, consumed: CONSUMED, ...ofEngine });
  worker.engine({ event: 'computed', step });
  worker.nowMs += heard.reducedAfterMs;
  const facts = { loss: 1, weight: 4, consumed: CONSUMED };
  const reduced = { job: 'j', generation: 1, step, facts, pulledBytes: 0, gatherMs: heard.gatherMs };
  worker.happen({ kind: 'data_plane_event', event: { kind: 'reduced', ...reduced } });
  worker.nowMs += heard.appliedAfterMs;
  const applied = { grad_norm: null, lr: 0.1, skipped: false, apply_ms: heard.applyMs, device_memory: device };
  worker.engine({ event: 'applied', step, ...applied });
}

const CALM: Heard = {
  ...{ computedAfterMs: 14, reducedAfterMs: 5, appliedAfterMs: 2 },
  ...{ dataMs: 3, computeMs: 10, gatherMs: 4, applyMs: 1.5 },
};

describe('the time of a step', () => {
  it('is data, compute, reduce, gather and apply, one after the other', () => {
    const worker = begun();
    makeStep(worker, 0, CALM);
    expect(worker.said('stepCommitted')).toMatchObject([
      { step: 0, stepMs: 21, dataMs: 3, computeMs: 10, reduceMs: 1, gatherMs: 4, applyMs: 1.5 },
    ]);
  });

  it('begins when the step before is applied, though that is later than its commit', () => {
    const worker = begun();
    makeStep(worker, 0, CALM);
    makeStep(worker, 1, CALM);
    expect(worker.said('stepCommitted')[1]).toMatchObject({ step: 1, stepMs: 21, dataMs: 3, computeMs: 10 });
  });

  it('has no gather before the own computation is over, and no exchange that was over before that', () => {
    const worker = begun();
    makeStep(worker, 0, { ...CALM, reducedAfterMs: 0, gatherMs: 50 });
    makeStep(worker, 1, { ...CALM, reducedAfterMs: 3, gatherMs: 50 });
    expect(worker.said('stepCommitted')).toMatchObject([
      { reduceMs: 0, gatherMs: 0 },
      { reduceMs: 0, gatherMs: 3 },
    ]);
  });

  it('has no more of the engine than fits, where the daemon heard late of the step before', () => {
    const worker = begun();
    makeStep(worker, 0, { ...CALM, computedAfterMs: 6.5 });
    expect(worker.said('stepCommitted')).toMatchObject([{ dataMs: 1.5, computeMs: 5 }]);
  });

  it('is never less than its parts, and steps add up to the time that they took', () => {
    const ms = fc.double({ min: 0, max: 1000, noNaN: true });
    const heard = fc.record({
      ...{ computedAfterMs: ms, reducedAfterMs: ms, appliedAfterMs: ms },
      ...{ dataMs: ms, computeMs: ms, gatherMs: ms, applyMs: ms },
    });
    fc.assert(
      fc.property(fc.array(heard, { minLength: 1, maxLength: 8 }), (steps) => {
        const worker = begun();
        for (const [number, step] of steps.entries()) makeStep(worker, number, step);
        const reports = worker.said('stepCommitted');
        for (const { stepMs, dataMs = -1, computeMs, reduceMs, gatherMs = -1, applyMs } of reports) {
          const parts = [dataMs, computeMs, reduceMs, gatherMs, applyMs];
          expect(Math.min(...parts)).toBeGreaterThanOrEqual(0);
          expect(parts.reduce((sum, part) => sum + part, 0)).toBeLessThanOrEqual(stepMs + 1e-6);
        }
        expect(reports.reduce((sum, { stepMs }) => sum + stepMs, 0)).toBeCloseTo(worker.nowMs, 6);
      }),
    );
  });
});

describe('a heartbeat', () => {
  const usage = { engine: { memoryBytes: 5_000, cores: 1.5 }, hostUsedBytes: 70_000 };
  const heartbeats = (worker: LoneWorker) => worker.said('heartbeat').slice(-1);

  it('says what the engine and the machine use, and what the engine has said of its GPU', () => {
    const worker = begun();
    worker.nowMs = 500;
    worker.happen({ kind: 'ticked', loopDelayMs: 0, usage });
    expect(heartbeats(worker)).toMatchObject([
      { engineUsage: { ...usage.engine, device: undefined }, hostUsedBytes: 70_000 },
    ]);
    makeStep(worker, 0, CALM, { used: 3, total: 8 });
    // An engine says it again only when it has looked again.
    makeStep(worker, 1, CALM);
    worker.nowMs = 5_000;
    worker.happen({ kind: 'ticked', loopDelayMs: 0, usage });
    expect(heartbeats(worker)).toMatchObject([
      { engineUsage: { ...usage.engine, device: { usedBytes: 3, totalBytes: 8 } } },
    ]);
  });

  it('says nothing of an engine that is not there, or cannot be seen', () => {
    const worker = new LoneWorker();
    worker.happen({ kind: 'session_opened' });
    worker.coordinator({ kind: 'welcome', term: 1, coordinator: 'c1', heartbeatMs: 500 });
    worker.nowMs = 500;
    worker.happen({ kind: 'ticked', loopDelayMs: 0, usage });
    expect(heartbeats(worker)).toMatchObject([{ engineUsage: undefined, hostUsedBytes: 70_000 }]);
    const training = begun();
    training.nowMs = 500;
    training.happen({ kind: 'ticked', loopDelayMs: 0, usage: NO_USAGE });
    expect(heartbeats(training)).toMatchObject([{ engineUsage: undefined, hostUsedBytes: undefined }]);
  });
});
