import { expect, it } from 'vitest';
import type { EngineEvent } from '../../../worker/core/engine_protocol.js';
import { LoneWorker } from './lone_worker.js';

const BYTES = 16 * 1024 * 1024;
const DIGEST = '0'.repeat(64);

function computing(): LoneWorker {
  const worker = new LoneWorker();
  worker.load({ vectorBytes: BYTES, bf16Bytes: 0 });
  worker.begin(1);
  return worker;
}

const buckets = (count: number): EngineEvent => ({
  event: 'buckets',
  step: 0,
  lo: 0,
  length: 2,
  buckets: count,
});
const partial: EngineEvent = {
  ...{ event: 'partial', step: 0, lo: 0, length: 2, loss: 1, weight: 4 },
  ...{ consumed: [DIGEST.slice(48), DIGEST.slice(48)], data_ms: 0, compute_ms: 1 },
};
const published = (count: number) => ({
  ...{ kind: 'publish_buckets', job: 'j', step: 0, node: { lo: 0, length: 2 }, slot: 2, buckets: count },
});

it('tells the data plane which buckets are final, then that the partial is whole', () => {
  const worker = computing();
  worker.engine(buckets(1));
  worker.engine(buckets(3));
  expect(worker.toldDataPlane('publish_buckets')).toEqual([published(1), published(3)]);
  expect(worker.toldDataPlane('publish_partial')).toEqual([]);
  expect(worker.outstanding).toEqual(['compute']);
  worker.engine(partial);
  expect(worker.toldDataPlane('publish_partial')).toEqual([expect.objectContaining({ step: 0, slot: 2 })]);
  expect(worker.outstanding).toEqual(['compute']);
  worker.engine({ event: 'computed', step: 0 });
  expect(worker.outstanding).toEqual([]);
});

it('goes on to announce the same partial in the next generation, without computing it again', () => {
  const worker = computing();
  worker.engine(buckets(1));
  worker.begin(2);
  worker.engine(buckets(2));
  expect(worker.toldDataPlane('publish_buckets')).toEqual([published(1), published(2)]);
  expect(worker.commands.filter(({ kind }) => kind === 'tell_engine')).toHaveLength(3); // load, digest, compute
  expect(worker.outstanding).toEqual(['compute']);
});

it('drops what the engine announces of a state that is being replaced', () => {
  const worker = computing();
  worker.begin(2, true);
  worker.engine(buckets(1));
  worker.engine(partial);
  expect(worker.toldDataPlane('publish_buckets')).toEqual([]);
  expect(worker.toldDataPlane('publish_partial')).toEqual([]);
});
