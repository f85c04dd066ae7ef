/** A real cluster with a job that trains until it is let go, and where its ports are. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { workersFolder } from '../../shared/etcd/keys.js';
import { readMembers } from '../../shared/etcd/member_watch.js';
import { FaultCluster } from '../faults/fault_cluster.js';
import type { FaultJobOptions } from '../faults/fault_job.js';
import { hurryUp } from '../faults/fault_job.js';
import type { WatchedJob } from '../faults/watched_job.js';
import type { Address } from './deliver.js';
import type { Ports } from './vital_signs.js';

const STEPS = 400;
const MICROBATCH_MS = 20;
const END_MS = 300_000;
const START_MS = 120_000;
const TOKEN_MS = 60_000;

const daemon = z.object({ listen: z.string(), dashboard: z.string() });
const member = z.object({ address: z.string() });

export interface Attacked {
  readonly cluster: FaultCluster;
  readonly ports: Ports;
  readonly term: number;
  /** Of a run that nobody disturbed. */
  readonly digest: string;
}

export interface AttackedSize {
  /** The job that trains takes three of them. They exchange as if each were on a host of its own. */
  readonly workers: number;
  readonly tls: boolean;
}

export async function startAttacked({ workers: count, tls }: AttackedSize): Promise<Attacked> {
  const cluster = await FaultCluster.start({ workers: count, coordinators: 1, separateHosts: true, tls });
  try {
    await cluster.untilAllIdle();
    const config = daemon.parse(parse(readFileSync(join(cluster.folder, 'c1.yaml'), 'utf8')));
    const workers = await readMembers(cluster.etcd, workersFolder);
    const ports = {
      coordinator: addressOf(config.listen),
      dashboard: addressOf(config.dashboard),
      peers: [...workers.values()].map((value) => addressOf(member.parse(value).address)),
      join: tls ? addressOf((await cluster.client.createToken('w8', TOKEN_MS)).address) : undefined,
    };
    const { term } = await cluster.leader();
    const calm = await cluster.submit(jobOptions(0));
    const digest = await calmEnd(calm);
    return { cluster, ports, term, digest };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** A job that has begun, and goes on slowly towards its end until `letGo`. */
export async function startJob(cluster: FaultCluster): Promise<WatchedJob> {
  const job = await cluster.submit(jobOptions(MICROBATCH_MS));
  await job.untilCommitted(3, START_MS);
  return job;
}

/** Its end, compared with that of the one that nobody disturbed. */
export async function letGo(job: WatchedJob, digest: string): Promise<void> {
  hurryUp(job.bundle);
  const found = await calmEnd(job);
  if (found !== digest) throw new Error(`the weights are ${found}, not ${digest}`);
}

function jobOptions(microbatchMs: number): FaultJobOptions {
  return { steps: STEPS, microbatchMs, keys: { workers: { min: 1, max: 3 } } };
}

async function calmEnd(job: WatchedJob): Promise<string> {
  const { state, reason, weightsDigest } = await job.untilEnd(END_MS);
  if (state !== 'finished') throw new Error(`the job is ${state}: ${reason}\n${job.story()}`);
  return weightsDigest;
}

function addressOf(text: string): Address {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
}
