/** A limit on the memory of a process, kept by the kernel: whoever goes beyond it is killed, as when a host has none left. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './until.js';

/** Version 1 has a hierarchy of its own for memory, version 2 has one for everything. */
const VERSION_1 = '/sys/fs/cgroup/memory';
const VERSION_2 = '/sys/fs/cgroup';

/** What the process takes from now on counts, not what it has already. Returns what removes the limit once the process is gone. */
export function limitMemory(pid: number, bytes: number): () => Promise<void> {
  const first = existsSync(VERSION_1);
  const group = join(first ? VERSION_1 : VERSION_2, `lockstep-test-${pid}`);
  mkdirSync(group);
  writeFileSync(join(group, first ? 'memory.limit_in_bytes' : 'memory.max'), String(bytes));
  writeFileSync(join(group, 'cgroup.procs'), String(pid));
  return async () => {
    await until(() => isRemoved(group), { limitMs: 10_000, what: `the end of ${group}` });
  };
}

function isRemoved(group: string): boolean {
  try {
    rmdirSync(group);
    return true;
  } catch {
    return false; // The kernel is still busy with what was in it.
  }
}
