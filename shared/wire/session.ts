/** Our types for proto/session.proto. */
import {
  bool,
  bytes,
  choice,
  double,
  type Infer,
  list,
  message,
  milliseconds,
  optional,
  text,
  uint32,
  uint53,
  union,
} from './codec.js';
import { engineUsage, jobSpec, machine, metrics, preflight } from './jobs.js';

const id = text(128);
const line = text(4096);
const digest = text(64);
const path = text(4096);

export const engineFacts = message({
  vectorBytes: uint53,
  bf16Bytes: uint53,
  parameters: uint53,
  datasetLength: uint53,
  datasetDigest: digest,
  fingerprint: digest,
  initialState: digest,
  torch: text(64),
  device: text(64),
  enginePid: uint32,
});
export type EngineFacts = Infer<typeof engineFacts>;

export const snapshotFacts = message({ committed: uint53, bytes: uint53 });
export type SnapshotFacts = Infer<typeof snapshotFacts>;

const shard = message({ shard: uint32, file: text(255), bytes: uint53, sha256: digest });

export const checkpointDescription = message({
  job: id,
  name: text(63),
  committed: uint53,
  epoch: uint53,
  stepOfEpoch: uint53,
  specJson: text(131_072),
  datasetDigest: digest,
  datasetLength: uint53,
  torch: text(64),
  fingerprint: digest,
  loss: optional(double),
  samplesLost: uint53,
  samplesRepeated: uint53,
  createdMs: uint53,
});

export const holding = message({
  job: id,
  generation: uint53,
  committed: uint53,
  hasState: bool,
  facts: optional(engineFacts),
  engineStart: uint32,
  started: bool,
  snapshot: optional(snapshotFacts),
  attempt: uint32,
});
export type Holding = Infer<typeof holding>;

/** Empty: it gets jobs. */
const verdict = message({ marked: line });

const measuredPeer = message({ worker: id, peerAddress: text(255) });
export type MeasuredPeer = Infer<typeof measuredPeer>;

export const treeNode = message({ lo: uint32, length: uint32 });

export const logLine = message({
  timeMs: uint53,
  stream: text(16),
  text: text(65_536),
  attempt: uint32,
  generation: uint53,
  step: uint53,
  number: uint53,
});
export type LogLine = Infer<typeof logLine>;

export const workerMessage = union('message', {
  hello: message({
    worker: id,
    incarnation: id,
    host: text(255),
    pid: uint32,
    peerAddress: text(255),
    term: uint53,
    holding: optional(holding),
    machine,
    measures: bool,
    preflight: optional(preflight),
    verdict: optional(verdict),
    protocol: uint32,
  }),
  measured: message({ preflight }),
  heartbeat: message({
    enginePid: uint32,
    committed: uint53,
    microbatchMs: milliseconds,
    restoredPieces: uint53,
    loopDelayMs: milliseconds,
    engineUsage: optional(engineUsage),
    hostUsedBytes: optional(uint53),
  }),
  loaded: message({ job: id, facts: engineFacts, engineStart: uint32 }),
  engineFailed: message({
    job: id,
    phase: text(64),
    failure: choice({ user: 'USER', resource: 'RESOURCE', engine: 'ENGINE' }),
    message: line,
    traceback: text(65_536),
    engineStart: uint32,
  }),
  prepared: message({
    job: id,
    generation: uint53,
    holding,
    nodes: list(treeNode),
    hasReduced: bool,
  }),
  stepCommitted: message({
    job: id,
    generation: uint53,
    step: uint53,
    loss: double,
    weight: double,
    consumed: bytes(524_288),
    stepMs: milliseconds,
    computeMs: milliseconds,
    reduceMs: milliseconds,
    applyMs: milliseconds,
    pulledBytes: uint53,
    gradNorm: optional(double),
    skipped: bool,
    dataMs: optional(milliseconds),
    gatherMs: optional(milliseconds),
  }),
  digestReported: message({ job: id, committed: uint53, weights: digest, state: digest }),
  evaluated: message({ job: id, committed: uint53, metrics }),
  finished: message({ job: id, weights: digest, metrics, path }),
  peerLost: message({ job: id, generation: uint53, worker: id, reason: line }),
  logLines: message({
    job: id,
    lines: list(logLine, 1024),
  }),
  unloaded: message({ job: id }),
  healed: message({ job: id, generation: uint53, committed: uint53 }),
  refused: message({ job: id, term: uint53, generation: uint53 }),
  leaving: message({}),
  snapshotTaken: message({ job: id, snapshot: snapshotFacts, copyMs: milliseconds }),
  snapshotSkipped: message({ job: id, committed: uint53, reason: line }),
  shardWritten: message({ job: id, save: id, shard }),
  saveFailed: message({ job: id, save: id, reason: line }),
  checkpointPublished: message({
    job: id,
    save: id,
    path,
    manifestSha256: digest,
    stateSha256: digest,
    bytes: uint53,
  }),
  checkpointRemoved: message({ job: id, path, error: line }),
  restoreFailed: message({ job: id, generation: uint53, path, reason: line, damaged: bool }),
});
export type WorkerMessage = Infer<typeof workerMessage>;

/** So that whoever takes them is soon done with one worker's, and comes to the next one's. */
export const MOST_TOGETHER = 64;

export const workerMessages = message({ messages: list(workerMessage, MOST_TOGETHER) });

export const member = message({
  worker: id,
  incarnation: id,
  peerAddress: text(255),
  lo: uint32,
  length: uint32,
  heals: bool,
  engineStart: uint32,
});
export type Member = Infer<typeof member>;

export const placement = message({ node: treeNode, rank: uint32, held: bool });
export type Placement = Infer<typeof placement>;

export const restore = message({ path, manifestSha256: digest });
export type Restore = Infer<typeof restore>;

export const coordinatorMessage = union(
  'message',
  {
    welcome: message({ coordinator: id, heartbeatMs: uint32 }),
    load: message({ job: id, spec: jobSpec, bundle: path, output: path, attempt: uint32 }),
    prepare: message({ job: id, generation: uint53 }),
    start: message({
      job: id,
      generation: uint53,
      committed: uint53,
      roster: list(member),
      inFlight: list(placement),
      reducedAt: list(uint32),
      healFrom: list(uint32),
      reportsFrom: uint53,
      restore: optional(restore),
    }),
    finish: message({ job: id }),
    unload: message({ job: id, reason: line }),
    acknowledge: message({ job: id, reportsBelow: uint53 }),
    reject: message({ job: id, reason: line }),
    takeSnapshot: message({ job: id, at: uint53 }),
    writeShard: message({ job: id, save: id, committed: uint53, folder: path, shard: uint32, shards: uint32 }),
    publishCheckpoint: message({
      job: id,
      save: id,
      committed: uint53,
      folder: path,
      shards: list(shard),
      description: checkpointDescription,
    }),
    releaseSnapshot: message({ job: id, save: id, committed: uint53, folder: path, abandoned: bool }),
    removeCheckpoint: message({ job: id, path }),
    measure: message({ peers: list(measuredPeer, 16) }),
    verdict,
  },
  { term: uint53 },
);
export type CoordinatorMessage = Infer<typeof coordinatorMessage>;
