import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { build, buildMutant, countOf } from './build.js';
import { MUTANTS, type Mutant } from './mutants.js';
import { replayCommand, runOnThreads, runTask, type TaskReport } from './pool.js';
import { runSeed } from './run_seed.js';

const THREADS = 2;
/** `npm run test:sim` runs as many as one likes. */
const SEEDS = 10_000;
/** Of those: what is not a function of the seed shows in any of them. */
const TWICE = 1_000;
/** Seeds in which a mutant has to be caught. */
const MUTANT_SEEDS = 10_000;

describe('the simulator', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-simulator-'));
  const built = join(folder, 'built');

  beforeAll(() => build(built));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(`finds every invariant kept in ${SEEDS} clusters with random faults, ${TWICE} of them run twice with the same trace`, async () => {
    const task = { stride: 1, level: 'all', mostFailures: 3 } as const;
    const reports = [
      await runOnThreads(built, { ...task, from: 1, count: TWICE, twice: true }, THREADS),
      await runOnThreads(built, { ...task, from: TWICE + 1, count: SEEDS - TWICE, twice: false }, THREADS),
    ];
    const failures = reports.flatMap((report) => report.failures);
    const lines = failures.map(({ seed, failure }) => `seed ${seed}: ${failure}\n  ${replayCommand(seed)}`);
    expect(lines, lines.join('\n')).toEqual([]);
    const sum = (of: (report: TaskReport) => number): number => reports.reduce((total, one) => total + of(one), 0);
    expect(sum(({ runs }) => runs)).toBe(SEEDS);
    expect(sum(({ commits }) => commits)).toBeGreaterThan(10 * SEEDS);
    expect(sum(({ saved }) => saved)).toBeGreaterThan(SEEDS);
    expect(sum(({ restored }) => restored)).toBeGreaterThan(SEEDS / 10);
  }, 1_800_000);

  it('runs the same cluster differently for another seed', () => {
    expect(runSeed(1).trace).not.toBe(runSeed(2).trace);
    expect(runSeed(1).trace).toBe(runSeed(1).trace);
  });

  it('finds the text of each mutant once', () => {
    const lost = MUTANTS.filter((mutant) => countOf(built, mutant) !== 1);
    expect(lost.map(({ name, file, find }) => `${name}: ${file}: ${find}`)).toEqual([]);
  });

  it(`catches each of ${MUTANTS.length} mutants of the cores within ${MUTANT_SEEDS} seeds`, async () => {
    const waiting = MUTANTS.map((mutant, index) => ({ mutant, index }));
    const missed: string[] = [];
    const caught: string[] = [];
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { mutant, index } = next;
        const seeds = await seedsToCatch(mutant, join(folder, `mutant-${index}`));
        if (seeds === undefined) missed.push(mutant.name);
        else caught.push(`${String(seeds).padStart(5)} seeds: ${mutant.name}`);
      }
    };
    await Promise.all(Array.from({ length: THREADS }, work));
    process.stdout.write(`${caught.sort().join('\n')}\n`);
    expect(missed).toEqual([]);
  }, 1_800_000);

  async function seedsToCatch(mutant: Mutant, at: string): Promise<number | undefined> {
    buildMutant(built, at, mutant);
    const from = mutant.from ?? 1;
    const task = { from, count: MUTANT_SEEDS, stride: 1, level: 'all', twice: false, mostFailures: 1 } as const;
    const report = await runTask(at, task);
    return report.failures.length > 0 ? report.runs : undefined;
  }
});
