/** What an engine and its machine use, as cells of a table; empty for what is not known. */
import { formatBytes, formatBytesOf } from '../../shared/text/numbers.js';
import type { Node } from '../../shared/wire/jobs.js';

/** Of an engine. */
export function engineCells({ engineUsage }: Pick<Node, 'engineUsage'>): readonly [cores: string, memory: string] {
  return engineUsage === undefined ? ['', ''] : [engineUsage.cores.toFixed(1), formatBytes(engineUsage.memoryBytes)];
}

/** Memory of its GPU, whoever uses it. */
export function deviceCell({ engineUsage }: Pick<Node, 'engineUsage'>): string {
  const device = engineUsage?.device;
  return device === undefined ? '' : formatBytesOf(device.usedBytes, device.totalBytes);
}

export function hostCell({ hostUsedBytes, machine }: Pick<Node, 'hostUsedBytes' | 'machine'>): string {
  return hostUsedBytes === undefined ? '' : formatBytesOf(hostUsedBytes, machine.memoryBytes);
}
