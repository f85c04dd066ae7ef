/** A worker's core, told what a coordinator, an engine and a data plane would tell it, up to its first step. */
import { parseJobSpec } from '../../../shared/job_spec.js';
import type { CoordinatorMessage, WorkerMessage } from '../../../shared/wire/session.js';
import { apply } from '../../../worker/core/apply.js';
import type { WorkerCommand } from '../../../worker/core/command.js';
import type { EngineEvent } from '../../../worker/core/engine_protocol.js';
import type { WorkerEvent } from '../../../worker/core/event.js';
import { initialState } from '../../../worker/core/state.js';

const DIGEST = '0'.repeat(64);
const IDENTITY = {
  worker: 'w1',
  incarnation: 'w1#1',
  host: 'h',
  pid: 1,
  peerAddress: 'h:1',
  machine: { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
  measures: true,
};

export interface Vector {
  readonly vectorBytes: number;
  readonly bf16Bytes: number;
}

export class LoneWorker {
  readonly commands: WorkerCommand[] = [];
  readonly #state = initialState(IDENTITY);
  nowMs = 0;

  constructor(
    /** Lines of the job file beside those that every job has. */
    private readonly keys: readonly string[] = [],
  ) {}

  happen(event: WorkerEvent): readonly WorkerCommand[] {
    const commands = apply(this.#state, { nowMs: this.nowMs, wallMs: 0, event });
    this.commands.push(...commands);
    return commands;
  }

  coordinator(message: CoordinatorMessage): readonly WorkerCommand[] {
    return this.happen({ kind: 'coordinator_message', message });
  }

  engine(event: EngineEvent): readonly WorkerCommand[] {
    return this.happen({ kind: 'engine_event', start: 1, event });
  }

  /** Is told to load the job: 2 microbatches of 2 samples. */
  start(): void {
    const lines = ['version: 1', 'name: x', 'task: a.py:A', 'steps: 9', 'batch: 4', 'microbatches: 2', ...this.keys];
    this.happen({ kind: 'session_opened' });
    const spec = parseJobSpec(lines.join('\n'));
    this.coordinator({ kind: 'load', term: 1, job: 'j', spec, bundle: '/b', output: '/o', attempt: 1 });
  }

  /** Has loaded it. */
  load(vector: Vector): void {
    this.start();
    const engine = { torch: '2', python: '3', device: 'cpu', fingerprint: DIGEST };
    this.engine({ event: 'started', pid: 7, ...engine });
    this.engine({
      event: 'loaded',
      vector_bytes: vector.vectorBytes,
      bf16_bytes: vector.bf16Bytes,
      parameters: 1,
      dataset_length: 40,
      dataset_digest: DIGEST,
    });
    this.engine({ event: 'digest', weights: DIGEST, state: DIGEST });
  }

  /** What it has said to the coordinator, of one kind. */
  said<K extends WorkerMessage['kind']>(kind: K): readonly Extract<WorkerMessage, { kind: K }>[] {
    const isWanted = (message: WorkerMessage): message is Extract<WorkerMessage, { kind: K }> => message.kind === kind;
    return this.commands.flatMap((command) => (command.kind === 'send' ? [command.message] : [])).filter(isWanted);
  }

  /** Operations that the engine has not answered. */
  get outstanding(): readonly string[] {
    return (this.#state.run?.outstanding ?? []).map(({ what }) => what);
  }

  /** What the data plane was told, of one kind. */
  toldDataPlane(kind: string): readonly unknown[] {
    return this.commands.flatMap((command) =>
      command.kind === 'tell_data_plane' && command.command.kind === kind ? [command.command] : [],
    );
  }

  /** Starts a generation in which it is alone. From the second on it holds the whole step in flight, unless it heals. */
  begin(generation: number, heals = false): void {
    this.prepare(generation);
    const member = { worker: 'w1', incarnation: 'w1#1', peerAddress: 'h:1', heals, engineStart: 1 };
    this.coordinator({
      kind: 'start',
      term: 1,
      job: 'j',
      generation,
      committed: 0,
      roster: [{ ...member, lo: 0, length: 2 }],
      inFlight: [{ node: { lo: 0, length: 2 }, rank: 0, held: generation > 1 && !heals }],
      reducedAt: [],
      healFrom: [],
      reportsFrom: 0,
      restore: undefined,
    });
  }

  prepare(generation: number): void {
    this.coordinator({ kind: 'prepare', term: 1, job: 'j', generation });
  }
}
