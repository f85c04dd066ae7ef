import { expect, it } from 'vitest';
import { slotBytes } from '../../../worker/collective/data_plane.js';
import { LoneWorker } from './lone_worker.js';

it.each([
  ['fp32', { vectorBytes: 4096, bf16Bytes: 0 }, 4096],
  ['bf16', { vectorBytes: 4160, bf16Bytes: 4096 }, 8192],
])(
  'tells the data plane how a vector with %s gradients lies, and reserves slots of whole pages',
  (exchange, vector, slot) => {
    const worker = new LoneWorker([`exchange: ${exchange}`]);
    worker.load(vector);
    worker.begin(1);
    const { commands } = worker;
    expect(slotBytes(vector.vectorBytes)).toBe(slot);
    expect(commands).toContainEqual({
      kind: 'tell_data_plane',
      start: 1,
      command: { kind: 'open_job', job: 'j', microbatches: 2, ...vector },
    });
    expect(commands.flatMap((command) => (command.kind === 'reserve_memory' ? [command.bytes] : []))).toEqual([
      2 * slot,
      3 * slot,
    ]);
    const told = commands.flatMap((command) => (command.kind === 'tell_engine' ? [command.command] : []));
    expect(told).toContainEqual(expect.objectContaining({ command: 'load', exchange }));
    expect(told).toContainEqual(
      expect.objectContaining({
        command: 'compute',
        step: 0,
        runs: [expect.objectContaining({ lo: 0, at: 2 * slot })],
      }),
    );
    const loaded = commands.flatMap((command) =>
      command.kind === 'send' && command.message.kind === 'loaded' ? [command.message.facts] : [],
    );
    expect(loaded).toEqual([expect.objectContaining(vector)]);
  },
);
