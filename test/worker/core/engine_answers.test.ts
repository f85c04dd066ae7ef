import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EngineEvent } from '../../../worker/core/engine_protocol.js';
import { parseEngineEvent } from '../../../worker/io/engine_events.js';
import { engineEvents } from '../../fuzz/engine_lines.js';
import { LoneWorker } from './lone_worker.js';

const DIGEST = '0'.repeat(64);
const CONSUMED = DIGEST.slice(48);
const VECTOR = { vectorBytes: 16 * 1024 * 1024, bf16Bytes: 0 };

const started: EngineEvent = { event: 'started', pid: 7, torch: '2', python: '3', device: 'cpu', fingerprint: DIGEST };
const digest: EngineEvent = { event: 'digest', weights: DIGEST, state: DIGEST };
const computed: EngineEvent = { event: 'computed', step: 0 };
const microbatch: EngineEvent = { event: 'microbatch', step: 0 };
const applied: EngineEvent = {
  event: 'applied',
  step: 0,
  grad_norm: null,
  lr: 1,
  skipped: false,
  apply_ms: 1,
  device_memory: null,
};
const buckets = (count: number, node = { lo: 0, length: 2 }): EngineEvent => ({
  event: 'buckets',
  step: 0,
  ...node,
  buckets: count,
});
const loaded = (vectorBytes: number, bf16Bytes = 0): EngineEvent => ({
  ...{ event: 'loaded', vector_bytes: vectorBytes, bf16_bytes: bf16Bytes },
  ...{ parameters: 1, dataset_length: 40, dataset_digest: DIGEST },
});
const partial = (fields: Partial<Extract<EngineEvent, { event: 'partial' }>> = {}): EngineEvent => ({
  ...{ event: 'partial', step: 0, lo: 0, length: 2, loss: 1, weight: 4, consumed: [CONSUMED, CONSUMED] },
  ...{ data_ms: 0, compute_ms: 1, ...fields },
});

/** One that computes its first step. */
function computing(): LoneWorker {
  const worker = new LoneWorker();
  worker.load(VECTOR);
  worker.begin(1);
  return worker;
}

function failures(worker: LoneWorker): readonly string[] {
  return worker.commands.flatMap((command) =>
    command.kind === 'send' && command.message.kind === 'engineFailed' ? [command.message.message] : [],
  );
}

function reduced(worker: LoneWorker): void {
  const facts = { loss: 1, weight: 4, consumed: [CONSUMED, CONSUMED] };
  const event = { kind: 'reduced', job: 'j', generation: 1, step: 0, facts, pulledBytes: 0, gatherMs: 0 } as const;
  worker.happen({ kind: 'data_plane_event', event });
}

describe('an engine that computes', () => {
  it.each<[string, readonly EngineEvent[]]>([
    ['started: it has started already', [started]],
    ['digest: compute was asked', [digest]],
    ['applied: compute was asked', [applied]],
    ['computed: 1 partials are missing', [computed]],
    ['computed: it is of step 1, not 0', [partial(), { event: 'computed', step: 1 }]],
    ['computed: nothing was asked', [partial(), computed, computed]],
    ['partial: all that was asked for is there', [partial(), partial()]],
    ['partial: it is of step 1, not 0', [partial({ step: 1 })]],
    ['partial: node 0+1 was not asked for', [partial({ length: 1, consumed: [CONSUMED] })]],
    ['partial: 1 digests of what was consumed for 2 microbatches', [partial({ consumed: [CONSUMED] })]],
    ['microbatch: all that were asked for are computed', [microbatch, microbatch, microbatch]],
    ['microbatch: it is of step 1, not 0', [{ event: 'microbatch', step: 1 }]],
    ['buckets: node 1+1 was not asked for', [buckets(1, { lo: 1, length: 1 })]],
    ['buckets: 2 buckets after 2', [buckets(2), buckets(2)]],
    ['buckets: 4 buckets before the whole, of which 3 can be', [buckets(4)]],
    ['buckets: node 0+2 is whole already', [partial(), buckets(3)]],
  ])('and says %s', (what, events) => {
    const worker = computing();
    for (const event of events) worker.engine(event);
    expect(failures(worker)).toEqual([`the engine said ${what}`]);
    expect(worker.commands.at(-1)).toMatchObject({ kind: 'send' });
    expect(worker.commands).toContainEqual({ kind: 'kill_engine', start: 1 });
    expect(worker.happen({ kind: 'engine_event', start: 1, event: digest })).toEqual([]);
  });

  it('and says what is due goes on', () => {
    const worker = computing();
    for (const event of [buckets(1), buckets(3), partial(), computed]) worker.engine(event);
    reduced(worker);
    worker.engine(applied);
    expect(failures(worker)).toEqual([]);
    expect(worker.outstanding).toEqual(['compute']);
  });

  it('and has applied another step than was asked', () => {
    const worker = computing();
    for (const event of [partial(), computed]) worker.engine(event);
    reduced(worker);
    worker.engine({ ...applied, step: 5 });
    expect(failures(worker)).toEqual(['the engine said applied: it is of step 5, not 0']);
  });
});

it.each<[string, EngineEvent]>([
  ['loaded: 128 bytes of 64 are bf16', loaded(64, 128)],
  ['loaded: 64 bytes are bf16 in an exchange of fp32', loaded(64, 64)],
  [`loaded: its gradients need ${3 * 2 ** 42} bytes to be exchanged, and this machine has ${2 ** 30}`, loaded(2 ** 42)],
  ['digest: load was asked', digest],
  ['started: it has started already', started],
])('an engine that loads and says %s', (what, event) => {
  const worker = new LoneWorker();
  worker.start();
  worker.engine(started);
  worker.engine(event);
  expect(failures(worker)).toEqual([`the engine said ${what}`]);
  expect(worker.commands.filter(({ kind }) => kind === 'reserve_memory')).toEqual([]);
});

it('whatever an engine says, in whatever order, nothing is thrown, and it is told no more than it may be', () => {
  const event = engineEvents.map((given) => {
    try {
      return parseEngineEvent(JSON.stringify(given)).event;
    } catch {
      return undefined;
    }
  });
  fc.assert(
    fc.property(fc.boolean(), fc.array(event, { maxLength: 12 }), (isComputing, events) => {
      const worker = isComputing ? computing() : new LoneWorker();
      if (!isComputing) worker.start();
      for (const one of events) if (one !== undefined) worker.engine(one);
      const told = worker.commands.filter(({ kind }) => kind === 'tell_engine').length;
      return told <= 3 && failures(worker).length <= 1;
    }),
    { numRuns: 1_000 },
  );
});
