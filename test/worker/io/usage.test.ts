import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { groupUsed } from '../../../worker/io/control_groups.js';
import { UsageMeter, usedIn } from '../../../worker/io/usage.js';

/** Processor time, in ms: on a busy machine it takes a while to get. */
const BUSY_MS = 300;
const NO_SUCH_PID = 2 ** 22 + 1;

const folder = mkdtempSync(join(tmpdir(), 'lockstep-usage-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Milliseconds of processor time since `cpu`. */
function usedMs(cpu: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / 1000;
}

describe('what an engine uses', () => {
  it('is read from /proc: its resident memory, and the cores since the look before', () => {
    const meter = new UsageMeter();
    const engine = { pid: process.pid, groupUsed: () => undefined };
    expect(meter.look(engine, performance.now()).engine).toBeUndefined();
    const [cpu, startMs] = [process.cpuUsage(), performance.now()];
    while (usedMs(cpu) < BUSY_MS);
    const nowMs = performance.now();
    const seen = meter.look(engine, nowMs).engine;
    const tookMs = nowMs - startMs;
    // In /proc time goes by hundredths of a second.
    expect(Math.abs((seen?.cores ?? 0) * tookMs - usedMs(cpu))).toBeLessThan(50);
    const residentBytes = process.memoryUsage.rss();
    expect(Math.abs((seen?.memoryBytes ?? 0) - residentBytes)).toBeLessThan(0.2 * residentBytes);
  });

  it('is that of its control group where /proc hides it', () => {
    const meter = new UsageMeter();
    let cpuSeconds = 7;
    const engine = { pid: NO_SUCH_PID, groupUsed: () => ({ memoryBytes: 4_096, cpuSeconds }) };
    meter.look(engine, 1_000);
    cpuSeconds += 1;
    expect(meter.look(engine, 1_500).engine).toEqual({ memoryBytes: 4_096, cores: 2 });
  });

  it('is not known where neither can be seen, without an engine, and of one that is seen for the first time', () => {
    const meter = new UsageMeter();
    const engineOf = (cpuSeconds: number) => ({ pid: NO_SUCH_PID, groupUsed: () => ({ memoryBytes: 1, cpuSeconds }) });
    const hidden = { pid: NO_SUCH_PID, groupUsed: () => undefined };
    for (const nowMs of [0, 500]) expect(meter.look(hidden, nowMs).engine).toBeUndefined();
    expect(meter.look(undefined, 1_000).engine).toBeUndefined();
    meter.look(engineOf(100), 1_500);
    // The next engine has used less than the one before.
    expect(meter.look(engineOf(1), 2_000).engine).toBeUndefined();
  });

  it('is found behind a name with blanks and brackets, and not in a process that has ended', () => {
    const stat = `7 (a) S (b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 100 0 0`;
    expect(usedIn(stat, 'Name:\ta\nVmRSS:\t    2048 kB\n')).toEqual({ memoryBytes: 2_097_152, cpuSeconds: 3 });
    expect(usedIn(stat, 'Name:\ta\nState:\tZ (zombie)\n')).toBeUndefined();
  });
});

it('the memory of a control group is what it would be of a process: without the files that the kernel keeps', () => {
  expect(groupUsed(folder)).toBeUndefined();
  writeFileSync(join(folder, 'memory.stat'), 'anon 1000\nfile 70000\nshmem 500\ninactive_anon 9\n');
  expect(groupUsed(folder)).toBeUndefined();
  writeFileSync(join(folder, 'cpu.stat'), 'usage_usec 2500000\nuser_usec 1\nsystem_usec 1\n');
  expect(groupUsed(folder)).toEqual({ memoryBytes: 1500, cpuSeconds: 2.5 });
});

it('of the machine, memory that could be had at once does not count as used', () => {
  const { hostUsedBytes = 0 } = new UsageMeter().look(undefined, 0);
  const kilobytes = (name: string, text: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]);
  const text = readFileSync('/proc/meminfo', 'utf8');
  const used = (kilobytes('MemTotal', text) - kilobytes('MemAvailable', text)) * 1024;
  expect(Math.abs(hostUsedBytes - used)).toBeLessThan(0.05 * kilobytes('MemTotal', text) * 1024);
});
