/** What an engine and its machine use: looked up in /proc, which knows it without asking anybody. See proc(5). */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import type { Usage } from '../core/event.js';

/** Of the times in /proc, on every Linux. */
const TICKS_A_SECOND = 100;

/** Since something began. */
export interface Used {
  readonly memoryBytes: number;
  readonly cpuSeconds: number;
}

export interface MeteredEngine {
  readonly pid: number;
  /** Of all that is in its control group; undefined where there is none. */
  readonly groupUsed: () => Used | undefined;
}

interface Look {
  readonly engine: MeteredEngine;
  readonly cpuSeconds: number;
  readonly nowMs: number;
}

export class UsageMeter {
  #last: Look | undefined;

  /** The cores are those since the last look; an engine that is seen for the first time has none yet. */
  look(engine: MeteredEngine | undefined, nowMs: number): Usage {
    return { engine: engine && this.#engine(engine, nowMs), hostUsedBytes: Math.max(0, totalmem() - freemem()) };
  }

  #engine(engine: MeteredEngine, nowMs: number): Usage['engine'] {
    const last = this.#last?.engine === engine ? this.#last : undefined;
    // Engines that run as another user are hidden from a daemon whose unit says ProtectProc=invisible.
    const used = processUsed(engine.pid) ?? engine.groupUsed();
    this.#last = used && { engine, nowMs, cpuSeconds: used.cpuSeconds };
    if (used === undefined || last === undefined || nowMs <= last.nowMs) return undefined;
    const cores = ((used.cpuSeconds - last.cpuSeconds) * 1000) / (nowMs - last.nowMs);
    return { memoryBytes: used.memoryBytes, cores: Math.max(0, cores) };
  }
}

/** Undefined if there is no such process, or it is hidden. */
function processUsed(pid: number): Used | undefined {
  try {
    return usedIn(readFileSync(`/proc/${pid}/stat`, 'utf8'), readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Undefined for a process that has ended and has no memory any more. */
export function usedIn(stat: string, status: string): Used | undefined {
  // The name of the program comes before, and may have blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kilobytes === undefined || !Number.isFinite(ticks)) return undefined;
  return { memoryBytes: Number(kilobytes) * 1024, cpuSeconds: ticks / TICKS_A_SECOND };
}
