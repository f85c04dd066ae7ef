/** Everything that a worker knows. Only apply.ts and what it calls change it. */
import type { TreeNode } from '../../shared/tree.js';
import type { DeviceMemory, JobSpec, Machine, Preflight } from '../../shared/wire/jobs.js';
import type { EngineFacts, Member, Placement, Restore, WorkerMessage } from '../../shared/wire/session.js';
import type { PartialFacts } from '../collective/data_plane.js';
import type { CoreDataPlaneCommand } from './command.js';
import type { EngineCommand, EngineOp } from './engine_protocol.js';
import type { Prints } from './prints.js';

export type StepReport = Extract<WorkerMessage, { kind: 'stepCommitted' }>;

/** A node of the step in flight that this worker computes or has computed. */
export interface OwnNode {
  readonly node: TreeNode;
  readonly slot: number;
  /** So many of its buckets were said to be final. */
  buckets: number;
  /** Present once the partial is whole in its slot. */
  facts: PartialFacts | undefined;
}

export interface InFlight {
  readonly step: number;
  readonly nodes: Map<string, OwnNode>;
  startedMs: number;
  computedMs: number;
  dataMs: number;
  computeMs: number;
  /** Others read all of this worker's partials (collective/routes.ts). */
  isOneShot: boolean;
}

/** A step that is committed here and not yet reported as applied. */
export interface Applying {
  readonly step: number;
  readonly facts: PartialFacts;
  readonly pulledBytes: number;
  readonly startedMs: number;
  readonly dataMs: number;
  readonly computeMs: number;
  /** When the last own partial was whole, and the reduced vector. */
  readonly computedMs: number;
  readonly reducedMs: number;
  /** Of the time before that, since the own segments were reduced. */
  readonly gatherMs: number;
  readonly generation: number;
  /** The worker has healed since, so the engine's answer says nothing about the state that it has now. */
  discarded: boolean;
}

/** A command that makes the data plane write the slot of its step. */
export type SlotWriter = Extract<CoreDataPlaneCommand, { readonly kind: 'reduce' | 'fetch_reduced' }>;

/** With the steps that were committed when it was asked for: the engine answers later, when there may be more. */
export interface Labelled<T> {
  readonly what: T;
  readonly committed: number;
}

/** An operation that the engine has not answered. */
export interface Outstanding extends Labelled<EngineOp> {
  /** Partials that the engine still owes. */
  partials: number;
  /** Microbatches of which it may still say that they are computed. */
  microbatches: number;
  /** The worker heals since: the answer says nothing about the state that it will have. */
  stale: boolean;
}

export interface Healing {
  readonly committed: number;
  readonly generation: number;
  /** From a checkpoint; undefined: from peers. */
  readonly restore: Restore | undefined;
  /** Ranks of peers that have the state. */
  readonly healFrom: readonly number[];
  /** The state memory is being filled. Before that the engine has to answer what it was told to do with it. */
  begun: boolean;
  /** Why the checkpoint cannot be restored; said again to a leader that may not have heard it. */
  failure: Extract<WorkerMessage, { kind: 'restoreFailed' }> | undefined;
  /** Bytes of the checkpoint that have been read. */
  readBytes: number;
  stage: 'fetching' | 'importing';
  /** What the engine is to do once it has the state. */
  readonly deferred: Labelled<EngineCommand>[];
}

/** A copy of the state in the engine's snapshot memory, for a checkpoint. */
export interface Snapshot {
  /** Steps that the copied state has committed. */
  readonly committed: number;
  /** undefined until the engine has made it. */
  bytes: number | undefined;
  /** The save that reads it: it must stay as it is until the coordinator says otherwise. */
  orderedBy: string | undefined;
}

export interface Finishing {
  metrics: Readonly<Record<string, number>>;
  file: { readonly bytes: number; readonly sha256: string } | undefined;
}

/** The generation that this worker is in. */
export interface NodePlacement {
  readonly node: TreeNode;
  readonly rank: number;
}

export interface Membership {
  readonly rank: number;
  readonly roster: readonly Member[];
  /** Of every step but the one that was in flight when it began. */
  readonly placements: readonly NodePlacement[];
  /** Steps committed when it began. */
  readonly since: number;
}

export interface JobRun {
  readonly job: string;
  readonly spec: JobSpec;
  readonly bundle: string;
  readonly output: string;
  /** Which of the engines that this worker has had for the job, over all lives of the daemon: the coordinator counts. */
  readonly attempt: number;
  readonly engineStart: number;
  enginePid: number;
  engineStarted: { readonly torch: string; readonly device: string; readonly fingerprint: string } | undefined;
  layout: Omit<EngineFacts, 'initialState' | 'fingerprint' | 'torch' | 'device' | 'enginePid'> | undefined;
  /** Present once the engine is ready to compute. */
  facts: EngineFacts | undefined;
  /** Operations that the engine has not answered, oldest first, and since when the oldest is under way. */
  readonly outstanding: Outstanding[];
  busySinceMs: number;
  /** Highest generation prepared or started. */
  generation: number;
  started: boolean;
  /** It was started in some generation, so the data plane may hold something of it. */
  exchanged: boolean;
  membership: Membership | undefined;
  /** Steps committed. */
  committed: number;
  /** The step whose reduced vector is whole in its slot. */
  reducedStep: number | undefined;
  inFlight: InFlight | undefined;
  /** Samples of the own nodes of coming steps (planning.ts). */
  planned: ReadonlyMap<string, readonly (readonly number[])[]>;
  /** Slots with partials of the step before, which others may still be reading. */
  readSlots: readonly number[];
  healing: Healing | undefined;
  snapshot: Snapshot | undefined;
  /** A snapshot is to be taken after so many committed steps. */
  snapshotAt: number | undefined;
  /** Grows while a checkpoint is being read: a sign of life. */
  restoredPieces: number;
  /** Placements of the step in flight, for a worker that must first commit the one before. */
  resumeWith: readonly Placement[] | undefined;
  readonly applying: Applying[];
  /** When the engine had applied the newest of its steps. */
  appliedMs: number;
  /** What the data plane is told once the engine has read the slot that it will write. */
  waitsForSlot: SlotWriter | undefined;
  /** Reports that the coordinator has not acknowledged, oldest first. */
  readonly reports: StepReport[];
  lastDigest: Extract<WorkerMessage, { kind: 'digestReported' }> | undefined;
  finishing: Finishing | undefined;
  lastLoss: number | null;
  readonly stepTimesMs: number[];
  /** Engine time a microbatch, of the newest partials. */
  readonly microbatchTimesMs: number[];
  /** As its engine said last. */
  deviceMemory: DeviceMemory | undefined;
  unloading: boolean;
}

export interface Identity {
  readonly worker: string;
  readonly incarnation: string;
  readonly host: string;
  readonly pid: number;
  readonly peerAddress: string;
  readonly machine: Machine;
  /** It measures itself when it is told to. */
  readonly measures: boolean;
}

export interface WorkerState {
  readonly identity: Identity;
  /** Highest term seen. */
  term: number;
  session: 'down' | 'greeting' | 'up';
  heartbeatMs: number;
  heartbeatSentMs: number;
  engineStarts: number;
  /** The daemon was told to stop. */
  leaving: boolean;
  run: JobRun | undefined;
  measuring: boolean;
  /** Its newest, and what a coordinator has said of that. The next leader hears both. */
  preflight: Preflight | undefined;
  verdict: { readonly marked: string } | undefined;
  /** Lines that were printed since the daemon started. */
  linesPrinted: number;
  /** The newest lines of the newest jobs, by job, oldest first. Changed by prints.ts only. */
  readonly prints: Map<string, Prints>;
}

export function initialState(identity: Identity): WorkerState {
  return {
    identity,
    term: 0,
    session: 'down',
    heartbeatMs: 500,
    heartbeatSentMs: 0,
    engineStarts: 0,
    leaving: false,
    run: undefined,
    measuring: false,
    preflight: undefined,
    verdict: undefined,
    linesPrinted: 0,
    prints: new Map(),
  };
}

export function newRun(
  load: Pick<JobRun, 'job' | 'spec' | 'bundle' | 'output' | 'attempt'>,
  engineStart: number,
  nowMs: number,
): JobRun {
  return {
    job: load.job,
    spec: load.spec,
    bundle: load.bundle,
    output: load.output,
    attempt: load.attempt,
    engineStart,
    enginePid: 0,
    engineStarted: undefined,
    layout: undefined,
    facts: undefined,
    outstanding: [],
    busySinceMs: nowMs,
    generation: 0,
    started: false,
    exchanged: false,
    membership: undefined,
    committed: 0,
    reducedStep: undefined,
    inFlight: undefined,
    readSlots: [],
    planned: new Map(),
    healing: undefined,
    snapshot: undefined,
    snapshotAt: undefined,
    restoredPieces: 0,
    resumeWith: undefined,
    applying: [],
    appliedMs: 0,
    waitsForSlot: undefined,
    reports: [],
    lastDigest: undefined,
    finishing: undefined,
    lastLoss: null,
    stepTimesMs: [],
    microbatchTimesMs: [],
    deviceMemory: undefined,
    unloading: false,
  };
}
