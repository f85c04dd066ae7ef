/** The machine that a benchmark runs on, for its report. */
import { cpus, loadavg, release, totalmem } from 'node:os';

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
  readonly node: string;
}

export function thisMachine(): Machine {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
  };
}

/** Of the last minute: processes that ran or wanted to. */
export function loadNow(): number {
  return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}

export function describe({ processor, cores, memoryGib, kernel, node }: Machine): string {
  return `${processor}, ${cores} cores, ${memoryGib} GiB, Linux ${kernel}, Node.js ${node}; load ${loadNow().toFixed(2)}`;
}
