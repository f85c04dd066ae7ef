/** The processes of one peer in bench:allreduce, Lockstep's or Gloo's, started together and asked together. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { medianOf } from '../shared/median.js';
import type { Vector } from './allreduce_job.js';
import { checked, done, listening, reduced, storePort } from './allreduce_messages.js';
import type { Place } from './nets.js';
import { chosenPython } from './python.js';
import { RankProcess } from './rank_process.js';

const START_MS = 60_000;
/** Also for filling and comparing a vector. */
const REDUCE_MS = 120_000;
/** By then all processes have heard that they are to begin. */
const LEAD_NS = 3_000_000;

const here = fileURLToPath(new URL('.', import.meta.url));
const peers = fileURLToPath(new URL('../../bench/peers', import.meta.url));

/** An all-reduce gave another vector than the sum. */
export class WrongResultError extends Error {}

export class Group {
  failures = 0;

  private constructor(
    readonly name: string,
    private readonly ranks: readonly RankProcess[],
  ) {}

  /** Kills what it has started if it cannot start all. */
  static async start(name: string, ranks: readonly RankProcess[], meet: () => Promise<void>): Promise<Group> {
    const group = new Group(name, ranks);
    try {
      await meet();
      return group;
    } catch (error) {
      await group.kill();
      throw error;
    }
  }

  async open(vector: Vector): Promise<void> {
    await askAll(this.ranks, { do: 'open', ...vector }, done, REDUCE_MS);
  }

  /** Throws a WrongResultError unless all elements of every worker's result are the sum. */
  async check(): Promise<void> {
    const answers = await askAll(this.ranks, { do: 'check' }, checked, REDUCE_MS);
    const wrong = answers.map((answer) => answer.wrong);
    if (wrong.some((count) => count > 0)) {
      throw new WrongResultError(`${this.name}: elements that are not the sum, by rank: ${wrong.join(', ')}`);
    }
  }

  /** Milliseconds of one all-reduce, begun by all at once: the slowest worker's. */
  async reduce(): Promise<number> {
    const atNs = Number(process.hrtime.bigint()) + LEAD_NS;
    const answers = await askAll(this.ranks, { do: 'reduce', atNs }, reduced, REDUCE_MS);
    this.failures = answers.reduce((sum, { failures }) => sum + failures, 0);
    return Math.max(...answers.map(({ ms }) => ms));
  }

  /** The median of so many all-reduces, milliseconds. */
  async repetition(count: number): Promise<number> {
    const times: number[] = [];
    while (times.length < count) times.push(await this.reduce());
    return medianOf(times);
  }

  async close(): Promise<void> {
    await askAll(this.ranks, { do: 'close' }, done, REDUCE_MS);
  }

  async kill(): Promise<void> {
    await Promise.all(this.ranks.map((rank) => rank.kill()));
  }
}

/** All answers are awaited, so the next question finds nobody busy. */
function askAll<T>(
  ranks: readonly RankProcess[],
  message: object,
  answer: Parameters<typeof RankProcess.prototype.ask<T>>[1],
  limitMs: number,
): Promise<readonly T[]> {
  return Promise.all(ranks.map((rank) => rank.ask(message, answer, limitMs)));
}

/** With `certificates`, a folder of `lockstep certs`, they talk over TLS. */
export function startLockstep(places: readonly Place[], sameHost: boolean, certificates?: string): Promise<Group> {
  const ranks = places.map((place, rank) => {
    const folder = certificates === undefined ? [] : [join(certificates, `worker-w${rank}`)];
    const args = [String(rank), place.address, String(sameHost), ...folder];
    return new RankProcess({
      name: `Lockstep's worker ${rank}`,
      place,
      command: [process.execPath, join(here, 'allreduce_worker.js'), ...args],
      environment: process.env,
    });
  });
  return Group.start('Lockstep', ranks, async () => {
    const ports = await askAll(ranks, {}, listening, START_MS);
    const roster = places.map(({ address }, rank) => ({
      worker: `w${rank}`,
      incarnation: `w${rank}-1`,
      peerAddress: `${address}:${ports[rank]?.port}`,
    }));
    await askAll(ranks, { do: 'join', roster }, done, START_MS);
  });
}

export function startGloo(places: readonly Place[], type: string): Promise<Group> {
  const ranks = places.map(
    (place, rank) =>
      new RankProcess({
        name: `Gloo's rank ${rank}`,
        place,
        command: [chosenPython(), join(peers, 'gloo_allreduce.py'), String(rank), String(places.length), type],
        environment: {
          ...process.env,
          GLOO_SOCKET_IFNAME: place.device,
          OMP_NUM_THREADS: '1',
          PYTHONDONTWRITEBYTECODE: '1',
        },
      }),
  );
  return Group.start('Gloo', ranks, async () => {
    const [first] = await askAll(ranks, {}, storePort, START_MS);
    const store = { host: places[0]?.address, port: first?.port };
    await askAll(ranks, { do: 'join', ...store }, done, START_MS);
  });
}
