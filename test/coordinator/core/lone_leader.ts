/** A coordinator's core that leads, told what etcd and the workers of one job would tell it. */
import { apply } from '../../../coordinator/core/apply.js';
import type { CoordinatorCommand } from '../../../coordinator/core/command.js';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import {
  type CheckpointRecord,
  type CoordinatorState,
  DEFAULT_SETTINGS,
  initialState,
  type JobRecord,
  type JobRun,
} from '../../../coordinator/core/state.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import type { EngineFacts, Holding, WorkerMessage } from '../../../shared/wire/session.js';

export const FACTS: EngineFacts = {
  vectorBytes: 64,
  bf16Bytes: 0,
  parameters: 1,
  datasetLength: 40,
  datasetDigest: 'd',
  fingerprint: 'f',
  initialState: 'i',
  torch: '2',
  device: 'cpu',
  enginePid: 7,
};

/** A queued job of 9 steps with the given lines in its file. */
export function jobRecord(lines: readonly string[] = [], change: Partial<JobRecord> = {}): JobRecord {
  const always = ['version: 1', 'name: x', 'task: a.py:A', 'steps: 9', 'batch: 4', 'microbatches: 4'];
  return {
    ...{ job: 'j', operationId: 'op', user: 'ann', bundle: '/b', output: '/o', checkpoints: '/c', resumedFrom: '' },
    spec: parseJobSpec([...always, ...lines].join('\n')),
    ...{ submittedMs: 0, state: 'queued', reason: '', traceback: '', weightsDigest: '', metrics: {}, facts: null },
    progress: { committed: 0, loss: null, samplesLost: 0, samplesRepeated: 0 },
    restores: { count: 0, committed: 0 },
    spent: NOTHING_SPENT,
    ...change,
  };
}

export function checkpointRecord(change: Partial<CheckpointRecord>): CheckpointRecord {
  const committed = change.committed ?? 5;
  return {
    ...{
      job: 'j',
      committed,
      path: `/c/j/step-${committed}`,
      manifestSha256: 'm',
      stateSha256: 's',
      bytes: 1,
      timeMs: 0,
    },
    progress: { committed, loss: 0.1, samplesLost: 0, samplesRepeated: 0 },
    damage: '',
    ...change,
  };
}

/** What a worker says that it holds of the job. */
export function holdingOf(change: Partial<Holding> = {}): Holding {
  const always = { job: 'j', generation: 0, committed: 0, hasState: true, engineStart: 1, started: false, attempt: 1 };
  return { ...always, facts: FACTS, ...change };
}

export class LoneLeader {
  readonly state: CoordinatorState = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
  readonly commands: CoordinatorCommand[] = [];
  nowMs = 0;

  constructor(
    readonly record: JobRecord,
    saved: readonly CheckpointRecord[] = [],
    removing: readonly string[] = [],
  ) {
    const checkpoints = [{ job: record.job, checkpoints: saved, removing }];
    const found = { jobs: [record], generations: [], checkpoints, nodes: [], accounts: undefined };
    this.happen({ kind: 'elected', term: 1, ...found });
  }

  happen(event: CoordinatorEvent): readonly CoordinatorCommand[] {
    const commands = apply(this.state, { nowMs: this.nowMs, wallMs: this.nowMs, event });
    this.commands.push(...commands);
    return commands;
  }

  get run(): JobRun {
    const run = this.state.jobs.get(this.record.job);
    if (run === undefined) throw new Error('the job is there');
    return run;
  }

  say(session: string, message: WorkerMessage): readonly CoordinatorCommand[] {
    return this.happen({ kind: 'session_message', session, message });
  }

  /** A session begins, named like the worker unless it has more than one. */
  hello(worker: string, holding?: Holding, session = worker): readonly CoordinatorCommand[] {
    const machine = { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 };
    const identity = { worker, incarnation: `${worker}#1`, host: 'h', pid: 1, peerAddress: `${worker}:1`, machine };
    return this.say(session, { kind: 'hello', protocol: 1, ...identity, term: 0, measures: false, holding });
  }

  loaded(session: string, facts = FACTS, engineStart = 1): readonly CoordinatorCommand[] {
    return this.say(session, { kind: 'loaded', job: this.record.job, facts, engineStart });
  }

  prepared(session: string, generation: number, change: Partial<Holding> = {}): readonly CoordinatorCommand[] {
    const holding = holdingOf({ job: this.record.job, generation: generation - 1, ...change });
    const nothing = { nodes: [], hasReduced: false };
    return this.say(session, { kind: 'prepared', job: this.record.job, generation, holding, ...nothing });
  }

  /** etcd has stored all that was written. */
  stored(): readonly CoordinatorCommand[] {
    return [...this.state.writes.keys()].flatMap((operation) => this.happen({ kind: 'write_stored', operation }));
  }

  later(ms: number): readonly CoordinatorCommand[] {
    this.nowMs += ms;
    // They are there all the while.
    for (const worker of this.state.workers.values()) worker.lastHeardMs = this.nowMs;
    return this.happen({ kind: 'ticked' });
  }

  /** These workers load the job and begin its first generation. */
  begin(...workers: readonly string[]): void {
    for (const worker of workers) this.hello(worker);
    for (const worker of workers) this.loaded(worker);
    for (const worker of workers) this.prepared(worker, 1);
    this.stored();
  }
}

/** What was sent, as `session kind`. */
export function sent(commands: readonly CoordinatorCommand[]): readonly string[] {
  return commands.flatMap((one) => (one.kind === 'send' ? [`${one.session} ${one.message.kind}`] : []));
}
