/** What a process has taken of the machine, from /proc. */
import { readFileSync } from 'node:fs';

/** Of Linux on every machine that matters; getconf CLK_TCK says it. */
const TICKS_A_SECOND = 100;

/** Time on processors since it began, all threads, milliseconds. */
export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name before the last parenthesis may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return (ticks / TICKS_A_SECOND) * 1000;
}

function statusMb(pid: number, field: string): number {
  const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error(`/proc/${pid}/status has no ${field}`);
  return Number(kilobytes) / 1024;
}

/** Resident memory now, MB of 2^20 bytes. */
export function residentMb(pid: number): number {
  return statusMb(pid, 'VmRSS');
}

/** Of that, what is not mapped from files. */
export function anonymousMb(pid: number): number {
  return statusMb(pid, 'RssAnon');
}

/** The most resident memory that it ever had. */
export function peakResidentMb(pid: number): number {
  return statusMb(pid, 'VmHWM');
}
