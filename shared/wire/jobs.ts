/** Our types for proto/jobs.proto. */
import {
  bool,
  choice,
  double,
  finite,
  type Infer,
  int32,
  list,
  mapOf,
  message,
  optional,
  text,
  uint32,
  uint53,
  union,
} from './codec.js';

const id = text(128);
const path = text(4096);
const line = text(4096);

export const jobSpec = message({
  version: uint32,
  name: text(63),
  task: text(512),
  seed: uint53,
  steps: optional(uint53),
  epochs: optional(uint53),
  batch: uint32,
  microbatches: uint32,
  workersMin: uint32,
  workersMax: uint32,
  tail: choice({ drop: 'DROP', keep: 'KEEP' }),
  shuffle: bool,
  precision: choice({ fp32: 'FP32', bf16: 'BF16' }),
  exchange: choice({ fp32: 'FP32', bf16: 'BF16' }),
  clipGradNorm: optional(double),
  onNonfinite: choice({ fail: 'FAIL', skip: 'SKIP' }),
  evaluateEvery: uint32,
  digestEvery: uint32,
  threads: uint32,
  determinism: choice({ strict: 'STRICT', loose: 'LOOSE' }),
  paramsJson: text(65_536),
  checkpointEvery: uint32,
  checkpointMinutes: uint32,
  checkpointKeep: uint32,
  checkpointKeepEvery: uint32,
  maxRestores: uint32,
  initFrom: optional(path),
  priority: int32,
  needsCpus: uint32,
  needsGpus: uint32,
  needsMemoryGib: uint32,
  where: list(message({ label: text(63), values: list(text(63), 64) }), 64),
});
export type JobSpec = Infer<typeof jobSpec>;

export const jobState = choice({
  queued: 'QUEUED',
  running: 'RUNNING',
  finished: 'FINISHED',
  failed: 'FAILED',
  cancelled: 'CANCELLED',
});
export type JobState = Infer<typeof jobState>;

export const submitRequest = message({
  operationId: id,
  spec: jobSpec,
  bundle: path,
  output: path,
  checkpoints: path,
  user: text(63),
});
export type SubmitRequest = Infer<typeof submitRequest>;

export const resumeRequest = message({ operationId: id, job: id, from: optional(uint53) });
export type ResumeRequest = Infer<typeof resumeRequest>;

export const jobReference = message({ job: id });
export const empty = message({});

/** Where the worker-seconds of a job went. */
export const spent = message({
  workerSeconds: double,
  dataSeconds: double,
  computeSeconds: double,
  reduceSeconds: double,
  gatherSeconds: double,
  applySeconds: double,
  loadingSeconds: double,
  recoverySeconds: double,
  queuedSeconds: double,
  checkpointSeconds: double,
  waitingSeconds: double,
});
export type Spent = Infer<typeof spent>;

/** Where those of the whole cluster went. */
export const usage = message({
  sinceMs: uint53,
  timeMs: uint53,
  jobs: spent,
  idleSeconds: double,
  cordonedSeconds: double,
  quarantinedSeconds: double,
  leavingSeconds: double,
  pricePerWorkerHour: double,
  users: list(message({ user: text(63), workerSeconds: double })),
});
export type Usage = Infer<typeof usage>;

export const job = message({
  job: id,
  spec: jobSpec,
  state: jobState,
  reason: line,
  submittedMs: uint53,
  committed: uint53,
  steps: uint53,
  generation: uint53,
  workers: list(id),
  loss: optional(double),
  weightsDigest: text(64),
  output: path,
  checkpoint: optional(uint53),
  checkpoints: path,
  resumedFrom: id,
  user: text(63),
  spent,
  pricePerWorkerHour: double,
  secondsLeft: optional(double),
  bundle: path,
});
export type Job = Infer<typeof job>;

export const jobList = message({ jobs: list(job), leftOut: uint32 });

export const checkpoint = message({
  step: uint53,
  path,
  bytes: uint53,
  timeMs: uint53,
  state: text(64),
  damage: line,
});
export type Checkpoint = Infer<typeof checkpoint>;
export const checkpointList = message({ checkpoints: list(checkpoint) });

export const cancelRequest = message({ job: id, checkpoint: bool });
export const watchRequest = message({ job: id, fromSequence: uint53, follow: bool });
export const logsRequest = message({
  job: id,
  follow: bool,
  worker: id,
  tail: optional(uint32),
  attempt: optional(uint32),
});
export const logEntry = message({
  timeMs: uint53,
  worker: id,
  stream: text(16),
  text: text(65_536),
  attempt: uint32,
  generation: uint53,
  step: uint53,
  number: uint53,
  incarnation: id,
});
export type LogEntry = Infer<typeof logEntry>;

/** What a worker has. */
export const machine = message({ labels: mapOf(text(63), 64), cpus: uint32, gpus: uint32, memoryBytes: uint53 });
export type Machine = Infer<typeof machine>;

/** How fit a worker has found its machine to be; see proto/jobs.proto for units. */
export const preflight = message({
  timeMs: uint53,
  tookMs: double,
  engineProblem: line,
  engineStartMs: double,
  torch: text(64),
  device: text(64),
  deviceName: text(255),
  matmulGflops: double,
  freeMemoryBytes: uint53,
  freeDeviceBytes: uint53,
  diskFolder: path,
  diskProblem: line,
  freeDiskBytes: uint53,
  diskBytesPerSecond: double,
  peers: list(message({ worker: id, sameHost: bool, bytesPerSecond: double, problem: line }), 16),
});
export type Preflight = Infer<typeof preflight>;

export const nodeReference = message({ worker: id });
export const cordonRequest = message({ worker: id, reason: line });
export const drainRequest = message({ worker: id, reason: line, deadlineMs: uint53 });

const deviceMemory = message({ usedBytes: uint53, totalBytes: uint53 });
export type DeviceMemory = Infer<typeof deviceMemory>;

export const engineUsage = message({ memoryBytes: uint53, cores: double, device: optional(deviceMemory) });
export type EngineUsage = Infer<typeof engineUsage>;

export const node = message({
  worker: id,
  host: text(255),
  pid: uint32,
  enginePid: uint32,
  loopDelayMs: double,
  state: text(32),
  job: id,
  committed: uint53,
  engine: text(255),
  machine,
  cordoned: line,
  quarantined: line,
  marked: line,
  preflight: optional(preflight),
  engineUsage: optional(engineUsage),
  hostUsedBytes: optional(uint53),
});
export type Node = Infer<typeof node>;
export const nodeList = message({ nodes: list(node), timeMs: uint53 });

export const auditReport = message({ job: id, steps: uint53, samplesLost: uint53, samplesRepeated: uint53 });
export type AuditReport = Infer<typeof auditReport>;

export const metrics = mapOf(finite, 256);

export const jobEvent = union(
  'event',
  {
    workerJoined: message({ worker: id }),
    workerLost: message({ worker: id, detectedBy: text(32), detectMs: double, reason: line }),
    generationStarted: message({
      generation: uint53,
      step: uint53,
      workers: list(id),
      reason: line,
      restoredFrom: path,
    }),
    stepCommitted: message({
      step: uint53,
      epoch: uint53,
      loss: double,
      generation: uint53,
      samples: uint53,
      stepMs: double,
      computeMs: double,
      reduceMs: double,
      applyMs: double,
      steps: uint53,
      pulledBytes: uint53,
      skipped: bool,
      dataMs: optional(double),
      gatherMs: optional(double),
    }),
    recovered: message({ generation: uint53, step: uint53, pauseMs: double }),
    leaderChanged: message({ term: uint53 }),
    jobFinished: message({
      state: jobState,
      steps: uint53,
      loss: optional(double),
      weightsDigest: text(64),
      reason: line,
      traceback: text(65_536),
      metrics,
      output: path,
    }),
    evaluated: message({ step: uint53, metrics }),
    jobQueued: message({ name: text(63) }),
    workerRefused: message({ worker: id, reason: line }),
    checkpointCommitted: message({ step: uint53, path, bytes: uint53, saveMs: double, writeMs: double }),
    checkpointFailed: message({ step: uint53, error: line }),
    checkpointRefused: message({ step: uint53, path, reason: line, damaged: bool }),
    workerReleased: message({ worker: id, reason: line }),
    jobPreempted: message({ reason: line }),
    workerMarked: message({ worker: id, reason: line }),
  },
  { sequence: uint53, timeMs: uint53, job: id },
);
export type JobEvent = Infer<typeof jobEvent>;
