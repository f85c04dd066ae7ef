/** The records of jobs, generations and checkpoints as they lie in etcd: JSON, checked when it is read. */
import { z } from 'zod';
import {
  accountsFolder,
  accountsKey,
  checkpointsFolder,
  checkpointsKey,
  generationKey,
  generationsFolder,
  jobKey,
  jobsFolder,
  nodeKey,
  nodesFolder,
} from '../../shared/etcd/keys.js';
import { jobSpec, spent } from '../../shared/wire/jobs.js';
import { engineFacts, member } from '../../shared/wire/session.js';
import type { AccountsRecord } from '../core/accounts.js';
import { NOTHING_SPENT } from '../core/spent.js';
import type { CheckpointsRecord, GenerationRecord, JobRecord, NodeRecord, Put } from '../core/state.js';
import type { Put as StorePut } from './store.js';

const count = z.number().int().min(0);

/** Messages are stored as they would go on the wire, so one check serves both. */
function stored<T>(codec: { decode(wire: unknown, path: string): T }, name: string) {
  return z.unknown().transform((value) => codec.decode(value, name));
}

const progress = z.object({
  committed: count,
  loss: z.number().nullable(),
  samplesLost: count,
  samplesRepeated: count,
});

/** Classes that an older coordinator did not know have nothing yet; what is reduce and gather now was one. */
const storedSpent = z
  .record(z.string(), z.number())
  .transform(({ exchangeSeconds = 0, ...value }) =>
    spent.decode({ ...NOTHING_SPENT, reduceSeconds: exchangeSeconds, ...value }, 'spent'),
  );

const jobRecord = z.object({
  job: z.string(),
  operationId: z.string(),
  user: z.string(),
  spec: stored(jobSpec, 'spec'),
  bundle: z.string(),
  output: z.string(),
  checkpoints: z.string(),
  resumedFrom: z.string(),
  submittedMs: count,
  state: z.enum(['queued', 'running', 'finished', 'failed', 'cancelled']),
  reason: z.string(),
  traceback: z.string(),
  weightsDigest: z.string(),
  metrics: z.record(z.string(), z.number()),
  facts: z.null().or(stored(engineFacts, 'facts')),
  progress,
  restores: z.object({ count, committed: count }),
  spent: storedSpent,
});

const generationRecord = z.object({
  job: z.string(),
  generation: count,
  term: count,
  committed: count,
  roster: z.array(stored(member, 'roster')),
  attempts: z.record(z.string(), count).default({}),
});

const checkpointsRecord = z.object({
  job: z.string(),
  removing: z.array(z.string()).default([]),
  checkpoints: z.array(
    z.object({
      job: z.string(),
      committed: count,
      path: z.string(),
      manifestSha256: z.string(),
      stateSha256: z.string(),
      bytes: count,
      timeMs: count,
      progress,
      damage: z.string(),
    }),
  ),
});

const accountsRecord = z.object({
  wallMs: count,
  users: z.array(z.object({ user: z.string(), workerSeconds: z.number().min(0) })),
  jobs: z.array(z.object({ job: z.string(), spent: storedSpent })),
});

const nodeRecord = z.object({ worker: z.string(), cordoned: z.string() });

export function toStore(put: Put): StorePut {
  if (put.kind === 'generation') {
    const { record } = put;
    const roster = record.roster.map((one) => member.encode(one, 'roster'));
    return { key: generationKey(record.job), value: JSON.stringify({ ...record, roster }) };
  }
  if (put.kind === 'checkpoints') {
    return { key: checkpointsKey(put.record.job), value: JSON.stringify(put.record) };
  }
  if (put.kind === 'node') return { key: nodeKey(put.record.worker), value: JSON.stringify(put.record) };
  if (put.kind === 'accounts') return { key: accountsKey, value: JSON.stringify(put.record) };
  const { record } = put;
  const spec = jobSpec.encode(record.spec, 'spec');
  const facts = record.facts === null ? null : engineFacts.encode(record.facts, 'facts');
  return { key: jobKey(record.job), value: JSON.stringify({ ...record, spec, facts }) };
}

/** All that is stored of a job. */
export function keysOfJob(job: string): readonly string[] {
  return [jobKey(job), generationKey(job), checkpointsKey(job)];
}

/** Throws an error that names the key of a record that cannot be read: a coordinator must not lead over what it does not understand. */
function parseAll<T>(entries: ReadonlyMap<string, string>, folder: string, schema: z.ZodType<T>): readonly T[] {
  return [...entries].flatMap(([key, value]) => {
    if (!key.startsWith(folder)) return [];
    try {
      return [schema.parse(JSON.parse(value))];
    } catch (error) {
      throw new Error(`etcd key ${key} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
}

export function fromStore(entries: ReadonlyMap<string, string>): {
  readonly jobs: readonly JobRecord[];
  readonly generations: readonly GenerationRecord[];
  readonly checkpoints: readonly CheckpointsRecord[];
  readonly nodes: readonly NodeRecord[];
  readonly accounts: AccountsRecord | undefined;
} {
  return {
    jobs: parseAll(entries, jobsFolder, jobRecord),
    generations: parseAll(entries, generationsFolder, generationRecord),
    checkpoints: parseAll(entries, checkpointsFolder, checkpointsRecord),
    nodes: parseAll(entries, nodesFolder, nodeRecord),
    accounts: parseAll(entries, accountsFolder, accountsRecord)[0],
  };
}
