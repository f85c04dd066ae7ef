import { describe, expect, it } from 'vitest';
import type { Measured } from '../../bench/control/measure.js';
import { rowOf, tableOf } from '../../bench/control/report.js';
import { machine } from './made_up.js';

const measured: Measured = {
  workers: 100,
  jobs: 10,
  setUpMs: 2345.6,
  steady: {
    coordinatorCpu: 0.0567,
    etcdCpu: 0.0123,
    workersCpu: 0.4,
    residentMb: 141.4,
    fromWorkers: 399.6,
    toWorkers: 201.2,
    loopDelay: { meanMs: 0.26, p99Ms: 1.04, maxMs: 9.96 },
  },
  changes: [
    { lossMs: 20.5, prepareMs: 11, joinMs: 31 },
    { lossMs: 90.25, prepareMs: 12, joinMs: 32 },
    { lossMs: 30.5, prepareMs: 13, joinMs: 33 },
  ],
  coordinatorMs: [14, 15, 19],
  mass: { vanished: 10, lossMs: 122.4, joinMs: 987.6 },
  loopDelay: { meanMs: 1, p99Ms: 5.55, maxMs: 44.44 },
  peakMb: 163.6,
  steps: 777,
};
const row = rowOf(measured, { loadBefore: 0.5, loadAfter: 1.5 });

describe('a row of bench:control', () => {
  it('has shares of a core in percent, and every repetition of a change', () => {
    expect(row).toMatchObject({ workers: 100, residentMb: 141, peakMb: 164, loadBefore: 0.5, loadAfter: 1.5 });
    expect(row.coordinatorCorePercent).toBe(5.7);
    expect(row.etcdCorePercent).toBe(1.2);
    expect(row.simulatedWorkersCorePercent).toBe(40);
    expect(row.lossToStartMs).toEqual({ median: 30.5, least: 20.5, most: 90.25, all: [20.5, 90.25, 30.5] });
    expect(row.noticedToStartedMs.most).toBe(19);
    expect(row.loadedToStartMs.median).toBe(32);
    expect(row.loopDelayInChangesMs).toEqual({ p99: 5.5, most: 44.4 });
  });

  it('is a column of the table', () => {
    const setup = { stepMs: 1000, seconds: 20, changes: 3 };
    const other = rowOf({ ...measured, workers: 1000 }, { loadBefore: 0, loadAfter: 0 });
    const table = tableOf({ benchmark: 'control', machine, began: '', ...setup, rows: [row, other] });
    const cells = table.split('\n').map((line) =>
      line
        .split('│')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
    expect(cells).toContainEqual(['workers', '100', '1000']);
    expect(cells).toContainEqual(['coordinator, of one core', '5.7 %', '5.7 %']);
    expect(cells).toContainEqual(['resident memory; most in the run', '141 MB; 164 MB', '141 MB; 164 MB']);
    expect(cells).toContainEqual(['a worker is lost: reset to last start, median; most', '31; 90 ms', '31; 90 ms']);
  });
});
