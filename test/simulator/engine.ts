/** A simulated engine: commands in order, each takes a while; its weights are a hash of everything that it applied. */
import { slotBytes } from '../../worker/collective/data_plane.js';
import type { ComputeRun, EngineCommand, EngineEvent } from '../../worker/core/engine_protocol.js';
import { IMAGE_BYTES, stateDigest } from './checkpoint/image.js';
import { digestOf, hashText, mix } from './hashing.js';
import { gradientOf, Memory, type PartialContent, vectorBytesOf } from './memory.js';
import { applied, leafGradient, sumOver } from './reference.js';
import type { JobPlan } from './scenario.js';
import type { WorkerHost } from './worker_host.js';

const PRINTS_EVERY = 4;
const LAST_WORDS_MS = 200;

/** What marks weights that no job can have. */
const GARBAGE = 666;

export class SimulatedEngine {
  readonly memory: Memory;
  alive = true;
  frozen = false;
  hanging = false;
  /** Its next compute or apply never ends. */
  hangsNext = false;
  weights = 0;
  committed = 0;
  readonly #queue: EngineCommand[] = [];
  #busy = false;
  #eventsUntilMs = 0;
  #waiting: (() => void)[] = [];

  constructor(
    private readonly host: WorkerHost,
    readonly start: number,
    readonly plan: JobPlan,
  ) {
    const { random } = host.world;
    this.memory = new Memory(vectorBytesOf(plan.spec));
    this.#busy = true;
    const startMs = random.chance(0.03) ? random.between(2_000, 6_000) : random.between(50, 800);
    this.#takes(startMs, () => {
      this.#say({
        event: 'started',
        pid: random.whole(1_000, 9_999),
        torch: '2.0',
        python: '3.11',
        device: 'cpu',
        fingerprint: digestOf(plan.kindOf(host.name)),
      });
      this.#next();
    });
  }

  tell(command: EngineCommand): void {
    if (!this.alive) return;
    this.#queue.push(command);
    if (!this.#busy) this.#next();
  }

  kill(reason: string): void {
    if (!this.alive) return;
    this.alive = false;
    this.#queue.length = 0;
    this.host.engineGone(this, LAST_WORDS_MS, reason);
  }

  freeze(): void {
    this.frozen = true;
  }

  thaw(): void {
    this.frozen = false;
    for (const act of this.#waiting.splice(0)) act();
  }

  get #speed(): number {
    return this.host.slowness * this.host.world.scenario.stepScale;
  }

  /** Runs `act` after the time, unless the engine dies or hangs. */
  #takes(delayMs: number, act: () => void): void {
    this.host.world.agenda.after(delayMs, () => {
      if (!this.alive || this.hanging) return;
      if (this.frozen) this.#waiting.push(() => this.alive && act());
      else act();
    });
  }

  #say(event: EngineEvent): void {
    const { agenda, random } = this.host.world;
    this.#eventsUntilMs = Math.max(this.#eventsUntilMs, agenda.nowMs + random.between(0.02, 0.5));
    agenda.after(this.#eventsUntilMs - agenda.nowMs, () => this.host.engineSaid(this.start, event));
  }

  /** Not in every step: the logs are no more than a part of what is to be tried. */
  #print(text: string): void {
    const { agenda, random } = this.host.world;
    agenda.after(random.between(0, 60), () => this.host.enginePrinted(this.start, text));
  }

  #next(): void {
    const command = this.#queue.shift();
    this.#busy = command !== undefined;
    if (command === undefined) return;
    if (this.hangsNext && (command.command === 'compute' || command.command === 'apply')) {
      this.hanging = true;
      return;
    }
    const { random } = this.host.world;
    switch (command.command) {
      case 'load':
        this.#answer(random.between(20, 200), () => this.#load());
        break;
      case 'compute':
        this.#compute(command.step, command.runs);
        break;
      case 'apply':
        this.#answer(this.#applyMs(), () => this.#apply(command));
        break;
      case 'digest':
        this.#answer(random.between(0.5, 6), () => ({
          event: 'digest',
          weights: digestOf(this.weights),
          state: stateDigest(this),
        }));
        break;
      case 'evaluate':
        this.#answer(random.between(2, 30), () => ({ event: 'evaluated', metrics: { accuracy: 0.5 } }));
        break;
      case 'finish':
        this.#answer(1, () => ({ event: 'finished' }));
        break;
      case 'export_model':
        this.#answer(random.between(2, 50), () => ({ event: 'exported', bytes: 1, sha256: digestOf(this.weights) }));
        break;
      case 'export_state':
        this.#answer(random.between(1, 40), () => this.#exportState());
        break;
      case 'snapshot':
        this.#snapshot(random.chance(0.05) ? random.between(5, 60) : random.between(0.2, 4));
        break;
      case 'import_state':
        this.#answer(random.between(1, 40), () => this.#importState());
        break;
      case 'stop':
        this.kill('exit status 0');
        break;
    }
  }

  #answer(delayMs: number, act: () => EngineEvent): void {
    this.#takes(delayMs, () => {
      this.#say(act());
      this.#next();
    });
  }

  #load(): EngineEvent {
    this.#print('loaded');
    this.weights = this.plan.initialWeightsOn(this.host.name);
    return {
      event: 'loaded',
      vector_bytes: this.memory.vectorBytes,
      bf16_bytes: 0,
      parameters: 1024,
      dataset_length: this.plan.datasetLength,
      dataset_digest: digestOf(hashText(this.plan.spec.name)),
    };
  }

  #applyMs(): number {
    const { random } = this.host.world;
    return (random.chance(0.05) ? random.between(20, 200) : random.between(0.3, 3)) * this.#speed;
  }

  #compute(step: number, runs: readonly ComputeRun[]): void {
    const [run, ...others] = runs;
    if (run === undefined) {
      if (step % PRINTS_EVERY === 0) this.#print(`step ${step}`);
      this.#say({ event: 'computed', step });
      this.#next();
      return;
    }
    if (this.plan.failsAt !== undefined && step >= this.plan.failsAt) {
      this.#answer(1, () => ({
        event: 'failed',
        phase: 'loss',
        kind: 'user',
        message: 'ValueError',
        traceback: 'here',
      }));
      return;
    }
    const { random } = this.host.world;
    this.memory.slots.set(this.memory.slotAt(run.at), undefined);
    const computeMs = run.length * random.between(1, 3) * this.#speed;
    const announced = this.#bucketsToAnnounce();
    const partMs = computeMs / (announced.length + 1);
    const goOn = (): void =>
      this.#takes(partMs, () => {
        const buckets = announced.shift();
        if (buckets === undefined) {
          this.#computed(step, run, computeMs);
          this.#compute(step, others);
        } else {
          this.#write(step, run, buckets);
          this.#say({ event: 'buckets', step, lo: run.lo, length: run.length, buckets });
          goOn();
        }
      });
    goOn();
  }

  /** How many buckets of a partial are said to be final before it is whole, time after time: never all, and in loose jobs none. */
  #bucketsToAnnounce(): number[] {
    const { random } = this.host.world;
    if (this.plan.spec.determinism === 'loose') return [];
    return Array.from({ length: this.memory.buckets - 1 }, (_, index) => index + 1).filter(() => random.chance(0.3));
  }

  /** Writes a partial, or the beginning of it. */
  #write(step: number, run: ComputeRun, buckets: number): PartialContent {
    const { plan, weights } = this;
    const nonce = plan.spec.determinism === 'loose' ? this.host.world.random.whole(1, 2 ** 30) : 0;
    const consumed = plan.consumedOf(step, run.lo, run.samples);
    const value = sumOver({ lo: run.lo, length: run.length }, (m) => {
      const gradient = leafGradient(weights, step, m, consumed[m - run.lo] ?? '');
      return nonce === 0 ? gradient : mix(gradient, nonce);
    });
    const node = { lo: run.lo, length: run.length };
    if (run.at + slotBytes(this.memory.vectorBytes) > this.memory.reserved)
      this.host.broken('I11', 'a partial past the memory');
    const content: PartialContent = { kind: 'partial', job: plan.spec.name, step, node, value, weights, buckets };
    this.memory.slots.set(this.memory.slotAt(run.at), content);
    return content;
  }

  #computed(step: number, run: ComputeRun, computeMs: number): void {
    this.#write(step, run, this.memory.buckets);
    this.#say({
      event: 'partial',
      step,
      lo: run.lo,
      length: run.length,
      loss: run.length,
      weight: run.samples.reduce((sum, samples) => sum + samples.length, 0),
      consumed: this.plan.consumedOf(step, run.lo, run.samples),
      data_ms: 0,
      compute_ms: computeMs,
    });
  }

  #apply({ step, at, weight, filled }: Extract<EngineCommand, { command: 'apply' }>): EngineEvent {
    const content = this.memory.slots.get(this.memory.slotAt(at));
    const gradient = gradientOf(content);
    const expected = this.plan.countsOf(step);
    const right =
      gradient !== undefined &&
      content?.kind === 'vector' &&
      content.step === step &&
      weight === expected.weight &&
      filled === expected.filled &&
      this.committed === step;
    this.host.world.say(this.host.name, `engine ${this.start} applied ${step}${right ? '' : ': WRONG'}`);
    this.weights = right ? applied(this.weights, gradient) : mix(GARBAGE, step);
    this.committed += 1;
    return { event: 'applied', step, grad_norm: null, lr: 0.1, skipped: false, apply_ms: 1, device_memory: null };
  }

  #exportState(): EngineEvent {
    this.memory.state.fill({ committed: this.committed, weights: this.weights });
    return { event: 'state_exported', bytes: IMAGE_BYTES, sha256: this.memory.state.sha256 };
  }

  /** Whatever reads the copy before is spoilt from the first byte on. */
  #snapshot(copyMs: number): void {
    this.host.world.oracle.checkpoints.snapshotBegins(this.host, this.memory.snapshot);
    this.memory.snapshot.begin();
    this.#answer(copyMs, () => {
      this.memory.snapshot.end({ committed: this.committed, weights: this.weights });
      this.host.world.onMoment('snapshot_taken', this.host.name);
      return { event: 'snapshot_taken', bytes: IMAGE_BYTES, copy_ms: copyMs };
    });
  }

  /** The engine verifies that the image is whole. */
  #importState(): EngineEvent {
    const { whole } = this.memory.state;
    if (whole === undefined) return this.host.broken('I6', 'imports a state that is not whole');
    this.weights = whole.weights;
    this.committed = whole.committed;
    return { event: 'state_imported', state: stateDigest(whole) };
  }
}
