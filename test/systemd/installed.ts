/** A machine with the package installed, and what a test does there. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { repository } from '../system/run_lockstep.js';
import type { Machine } from './machine.js';

const LOOK_MS = 200;

export const shown = z.object({
  state: z.string(),
  reason: z.string().optional(),
  committed: z.number().optional(),
  weights_digest: z.string().optional(),
  workers: z.string().array().optional(),
});
export type Shown = z.output<typeof shown>;

/** Builds the package into a folder and returns its path. */
export function buildPackage(folder: string): string {
  const command = join(repository, 'deploy/package.sh');
  return execFileSync(command, [folder], { encoding: 'utf8' }).trim();
}

/** Debian's own would pull in what is on the machine already. */
export async function install(machine: Machine, path: string): Promise<void> {
  await machine.must('dpkg', '--force-depends', '--install', path);
}

export async function until<T>(what: string, limitMs: number, look: () => Promise<T | undefined | false>): Promise<T> {
  const untilMs = performance.now() + limitMs;
  while (performance.now() < untilMs) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await delay(LOOK_MS);
  }
  throw new Error(`${what} did not come within ${limitMs / 1000} s`);
}

/** The command line of users, on the machine. */
export class Client {
  readonly #where: readonly string[];

  /** `tls` is the folder of the user's certificate. */
  constructor(
    private readonly machine: Machine,
    server: string,
    tls?: string,
  ) {
    this.#where = ['--server', server, ...(tls === undefined ? [] : ['--tls-dir', tls])];
  }

  lockstep(...args: readonly string[]) {
    return this.machine.run('lockstep', ...args, ...this.#where);
  }

  async submit(file: string, output: string): Promise<string> {
    return until('a coordinator that takes the job', 30_000, async () => {
      const { code, out } = await this.lockstep('submit', file, '--output', output);
      return code === 0 && out.trim();
    });
  }

  async show(job: string): Promise<Shown | undefined> {
    const { code, out } = await this.lockstep('job', job, '--json');
    return code === 0 ? shown.parse(JSON.parse(out)) : undefined;
  }

  /** As far as etcd keeps it of all jobs. */
  async jobs(): Promise<readonly Shown[]> {
    const { out } = await this.lockstep('jobs', '--json');
    return out
      .split('\n')
      .filter(Boolean)
      .map((line) => shown.parse(JSON.parse(line)));
  }

  untilStep(job: string, step: number, limitMs = 60_000): Promise<Shown> {
    return until(`step ${step}`, limitMs, async () => {
      const now = await this.show(job);
      return now !== undefined && (now.committed ?? 0) >= step ? now : undefined;
    });
  }

  untilEnd(job: string, limitMs: number): Promise<Shown> {
    return until('the end of the job', limitMs, async () => {
      const now = await this.show(job);
      return now !== undefined && /finished|failed|cancelled/.test(now.state) ? now : undefined;
    });
  }

  /** Names of the workers that are there. */
  async workers(): Promise<readonly string[]> {
    const { code, out } = await this.lockstep('nodes', '--json');
    if (code !== 0) return [];
    const node = z.object({ worker: z.string() });
    return out
      .split('\n')
      .filter(Boolean)
      .map((line) => node.parse(JSON.parse(line)).worker)
      .sort();
  }
}
