import { expect, it } from 'vitest';
import type { CoordinatorMessage } from '../../../shared/wire/session.js';
import { LoneWorker } from './lone_worker.js';

const order = { term: 1, job: 'j', committed: 0, folder: '/c/j' } as const;
const write = (save: string): CoordinatorMessage => ({ kind: 'writeShard', ...order, save, shard: 0, shards: 1 });

/** It is writing a shard of save `a`. */
function writing(): LoneWorker {
  const worker = new LoneWorker();
  worker.load({ vectorBytes: 64, bf16Bytes: 0 });
  worker.begin(1);
  worker.coordinator({ kind: 'takeSnapshot', term: 1, job: 'j', at: 0 });
  const consumed = ['0'.repeat(16), '0'.repeat(16)];
  const times = { data_ms: 0, compute_ms: 1 };
  worker.engine({ event: 'partial', step: 0, lo: 0, length: 2, loss: 1, weight: 4, consumed, ...times });
  worker.engine({ event: 'computed', step: 0 });
  worker.engine({ event: 'snapshot_taken', bytes: 10, copy_ms: 1 });
  worker.coordinator(write('a'));
  return worker;
}

const told = (worker: LoneWorker): readonly string[] =>
  worker.commands.flatMap((one) =>
    one.kind === 'tell_checkpoints' && 'save' in one.command ? [`${one.command.kind} ${one.command.save}`] : [],
  );

it('a save that another one follows, of the same copy, is abandoned before that begins', () => {
  const worker = writing();
  worker.coordinator(write('b'));
  expect(told(worker)).toEqual(['write_shard a', 'abandon_save a', 'write_shard b']);
});

it('a copy that is let go without a word of its save is not read any longer', () => {
  const worker = writing();
  worker.coordinator({ kind: 'releaseSnapshot', ...order, save: '', abandoned: false });
  expect(told(worker)).toEqual(['write_shard a', 'abandon_save a']);
});

it('a save that is done is not abandoned', () => {
  const worker = writing();
  worker.coordinator(write('a'));
  worker.coordinator({ kind: 'releaseSnapshot', ...order, save: 'a', abandoned: false });
  expect(told(worker)).toEqual(['write_shard a', 'write_shard a']);
});
