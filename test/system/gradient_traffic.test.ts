/** How many bytes of gradient the worker daemons of different hosts read from one another: by their own count, and by the kernel's. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type Cluster, startCluster, submit, watchToEnd } from './cluster.js';
import { exampleTask, jobFolder } from './job_folder.js';
import { exampleJob, newFolder, TEST_MS } from './run_lockstep.js';

const STEPS = 8;
const TOLERANCE = 0.05;
/** char_gpt: 621,952 fp32 elements. */
const GRADIENT_BYTES = 4 * 621_952;
/** What a daemon reads besides: its engine's answers, its session, the pulls that it serves. */
const CONTROL_BYTES = 200_000;

const folder = newFolder();
const writeJob = jobFolder(join(folder, 'job'), [exampleTask('char_gpt')]);
let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster(3, ['--separate-hosts']);
}, TEST_MS);
afterAll(async () => {
  await cluster?.lockstep.close();
  rmSync(folder, { recursive: true });
});

/**
 * Bytes that each worker daemon has got from read(2) and the like: sockets and pipes, but not mapped memory. See proc(5). Counted thread
 * by thread, because the count of a whole process has those of its dead children in it: the engine's import of PyTorch, for example.
 */
function bytesRead(): ReadonlyMap<string, number> {
  return new Map([...cluster.workers].map(([worker, pid]) => [worker, bytesReadBy(pid)]));
}

function bytesReadBy(pid: number): number {
  const counts = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const [, count] = /^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/task/${thread}/io`, 'latin1')) ?? [];
    return Number(count);
  });
  return counts.reduce((sum, count) => sum + count, 0);
}

it.each([
  { workers: 2, microbatches: 8 },
  { workers: 3, microbatches: 12 },
])(
  '$workers workers with one partial each read 2(N-1)/N of the gradient from one another at every step',
  async ({ workers, microbatches }) => {
    const expected = ((2 * (workers - 1)) / workers) * GRADIENT_BYTES;
    const job = writeJob({
      ...parse(readFileSync(exampleJob('char_gpt'), 'utf8')),
      name: `traffic-${workers}`,
      steps: STEPS,
      microbatches,
      workers: { min: workers, max: workers },
    });
    const before = bytesRead();
    const { end, steps } = await watchToEnd(cluster, await submit(cluster, job, `traffic-${workers}`));
    const after = bytesRead();

    expect(end.code).toBe(0);
    expect(steps).toHaveLength(STEPS);
    for (const { pulled_bytes } of steps) expect(Math.abs(pulled_bytes / expected - 1)).toBeLessThan(TOLERANCE);

    const read = [...after].map(([worker, count]) => count - (before.get(worker) ?? 0)).sort((a, b) => b - a);
    for (const count of read.slice(0, workers)) {
      expect(count).toBeGreaterThan(STEPS * expected * (1 - TOLERANCE));
      expect(count).toBeLessThan(STEPS * expected * (1 + TOLERANCE) + CONTROL_BYTES);
    }
    for (const count of read.slice(workers)) expect(count).toBeLessThan(CONTROL_BYTES);
  },
  TEST_MS,
);
