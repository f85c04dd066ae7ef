/** What this benchmark, and all that it has started, has taken of the machine: the rest is somebody else's. */
import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { cpuMsOf } from '../control/process_usage.js';

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

/** A process that has ended in the meantime counts no more. */
function ifAlive(read: () => number): number {
  try {
    return read();
  } catch {
    return 0;
  }
}

/** Processor time of this process and its descendants that are alive, milliseconds. */
export function ownCpuMs(): number {
  const pids = readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number);
  const parents = new Map(pids.map((pid) => [pid, ifAlive(() => parentOf(pid))]));
  const isOwn = (pid: number): boolean => pid === process.pid || (pid > 1 && isOwn(parents.get(pid) ?? 0));
  return pids.filter(isOwn).reduce((total, pid) => total + ifAlive(() => cpuMsOf(pid)), 0);
}

/** Processor time of everything since this machine started, milliseconds. */
export function machineCpuMs(): number {
  return cpus().reduce((total, { times: { user, nice, sys, irq } }) => total + user + nice + sys + irq, 0);
}
