/** What an engine and its machine use, as cells of a table; empty for what is not known. */
import { formatBytes, formatBytesOf } from '../../shared/text/numbers.js';
import type { Node } from '../../shared/wire/jobs.js';

/** Of an engine. */
export function engineCells({ engineUsage }: Pick<Node, 'engineUsage'>): readonly [cores: string, memory: string] {
  return engineUsage === undefined ? ['', ''] : [engineUsage.cores.toFixed(1), formatBytes(engineUsage.memoryBytes)];
}

/** With the memory of its GPU, whoever uses that: "torch 2.1 cuda, 31 of 80 GB". */
export function engineText({ engine, engineUsage }: Pick<Node, 'engine' | 'engineUsage'>): string {
  const device = engineUsage?.device;
  return device === undefined ? engine : `${engine}, ${formatBytesOf(device.usedBytes, device.totalBytes)}`;
}

export function hostCell({ hostUsedBytes, machine }: Pick<Node, 'hostUsedBytes' | 'machine'>): string {
  return hostUsedBytes === undefined ? '' : formatBytesOf(hostUsedBytes, machine.memoryBytes);
}
