/** Data planes with real threads, real gRPC and real memory files, and what their sums must be. */
import type { CredentialSource } from '../../../shared/identity/kept_credentials.js';
import { blocksFor, childrenOf, coverOf, nodeKey, rootOf, type TreeNode } from '../../../shared/tree.js';
import {
  type DataPlane,
  type DataPlaneCommand,
  type DataPlaneEvent,
  FIRST_PARTIAL_SLOT,
  type PartialFacts,
  type Peer,
  slotBytes,
} from '../../../worker/collective/data_plane.js';
import { startDataPlane } from '../../../worker/collective/start_data_plane.js';
import { MemoryFile } from '../../../worker/io/memory_file.js';
import { ensureBuilt } from '../built_threads.js';

const WAIT_MS = 10_000;

export interface Shape {
  /** Of 4 bytes each. */
  readonly elements: number;
  readonly microbatches: number;
  /** The first so many bytes are bfloat16 numbers, two an element; none by default. */
  readonly bf16Bytes?: number;
}

export interface Placement {
  readonly node: TreeNode;
  readonly rank: number;
}

type EventOf<K extends DataPlaneEvent['kind']> = Extract<DataPlaneEvent, { readonly kind: K }>;

const SCALES = Array.from({ length: 16 }, (_, exponent) => 2 ** (exponent - 35));

/** The gradients of each microbatch of one step: seeded noise of very different sizes, so that the order of addition shows. */
export class Gradients {
  readonly #sums = new Map<string, Float32Array>();

  constructor(
    readonly shape: Shape,
    readonly seed: number,
  ) {}

  /** The partial of a node, by the definition of the tree. */
  of(node: TreeNode): Float32Array {
    const known = this.#sums.get(nodeKey(node));
    if (known !== undefined) return known;
    const children = childrenOf(node);
    const sum = children === undefined ? this.#leaf(node.lo) : this.#sum(this.of(children[0]), this.of(children[1]));
    this.#sums.set(nodeKey(node), sum);
    return sum;
  }

  get total(): Float32Array {
    return this.of(rootOf(this.shape.microbatches));
  }

  factsOf(node: TreeNode): PartialFacts {
    const children = childrenOf(node)?.map((child) => this.factsOf(child));
    if (children?.[0] !== undefined && children[1] !== undefined) {
      const [left, right] = [children[0], children[1]];
      return {
        loss: left.loss + right.loss,
        weight: left.weight + right.weight,
        consumed: [...left.consumed, ...right.consumed],
      };
    }
    return { loss: 0.1 * (node.lo + this.seed), weight: node.lo, consumed: [node.lo.toString(16).padStart(16, '0')] };
  }

  #leaf(microbatch: number): Float32Array {
    const leaf = new Float32Array(this.shape.elements);
    let state = (this.seed * 7919 + microbatch * 104_729 + 1) | 0;
    for (let i = 0; i < leaf.length; i++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
      leaf[i] = state * (SCALES[state >>> 28] ?? 0);
    }
    const words = new Uint32Array(leaf.buffer, 0, this.#narrow);
    for (let i = 0; i < words.length; i++) words[i] = pairOf(words[i] ?? 0, words[i + 1] ?? 0);
    return leaf;
  }

  /** Elements that are pairs of bfloat16 numbers. */
  get #narrow(): number {
    return (this.shape.bf16Bytes ?? 0) / 4;
  }

  #sum(left: Float32Array, right: Float32Array): Float32Array {
    const sum = new Float32Array(left.length);
    for (let i = this.#narrow; i < sum.length; i++) sum[i] = Math.fround((left[i] ?? 0) + (right[i] ?? 0));
    const [a, b, words] = [left, right, sum].map(({ buffer }) => new Uint32Array(buffer, 0, this.#narrow));
    for (let i = 0; i < this.#narrow; i++) {
      const [x, y] = [a?.[i] ?? 0, b?.[i] ?? 0];
      if (words !== undefined) words[i] = pairOf(bf16Sum(x, y), bf16Sum(x << 16, y << 16));
    }
    return sum;
  }
}

const float = new Float32Array(2);
const bits = new Uint32Array(float.buffer);

/** The upper halves of two words in one: that of `low` at the lower addresses. */
function pairOf(high: number, low: number): number {
  return ((high & 0xffff0000) | (low >>> 16)) >>> 0;
}

/** The sum of the bfloat16 numbers in the upper halves of two words, rounded to the nearest, ties to even; in the upper half. */
function bf16Sum(left: number, right: number): number {
  bits[0] = left & 0xffff0000;
  bits[1] = right & 0xffff0000;
  float[0] = (float[0] ?? 0) + (float[1] ?? 0);
  const sum = bits[0] ?? 0;
  return (sum + 0x7fff + ((sum >>> 16) & 1)) >>> 0;
}

export class TestWorker {
  readonly events: DataPlaneEvent[] = [];
  readonly logs: string[] = [];
  #waiting: { readonly kind: string; readonly resolve: () => void }[] = [];
  #nextSlot = FIRST_PARTIAL_SLOT;

  #file: MemoryFile | undefined;
  #shape: Shape = { elements: 0, microbatches: 0 };
  #job = '';
  #plane: DataPlane | undefined;

  private constructor(
    readonly name: string,
    readonly incarnation: string,
    readonly host: string,
  ) {}

  static async start(
    name: string,
    sameHost: boolean,
    host = '127.0.0.1',
    credentials?: CredentialSource,
  ): Promise<TestWorker> {
    await ensureBuilt();
    const incarnation = `${name}-1`;
    const worker = new TestWorker(name, incarnation, host);
    worker.#plane = await startDataPlane({
      host,
      worker: name,
      incarnation,
      sameHost,
      credentials,
      onEvent: (event) => worker.#heard(event),
      log: (_level, line) => worker.logs.push(line),
    });
    return worker;
  }

  /** Begins a job with fresh memory; what was open before is closed. */
  open(job: string, shape: Shape): void {
    if (this.#file !== undefined) this.tell({ kind: 'close_job', job: this.#job });
    this.#file = MemoryFile.create(job);
    this.#file.grow(slotBytes(shape.elements * 4) * FIRST_PARTIAL_SLOT);
    this.#shape = shape;
    this.#job = job;
    this.#nextSlot = FIRST_PARTIAL_SLOT;
    this.events.length = 0;
    const vectorBytes = shape.elements * 4;
    const { microbatches, bf16Bytes = 0 } = shape;
    this.tell({ kind: 'open_job', job, exchangeFd: this.#file.fd, vectorBytes, bf16Bytes, microbatches });
  }

  get job(): string {
    return this.#job;
  }

  get file(): MemoryFile {
    if (this.#file === undefined) throw new Error('no job is open');
    return this.#file;
  }

  get plane(): DataPlane {
    if (this.#plane === undefined) throw new Error('the data plane is not started');
    return this.#plane;
  }

  get peer(): Peer {
    return { worker: this.name, incarnation: this.incarnation, peerAddress: `${this.host}:${this.plane.port}` };
  }

  tell(command: DataPlaneCommand): void {
    this.plane.tell(command);
  }

  startGeneration(generation: number, roster: readonly Peer[]): void {
    const rank = roster.findIndex(({ worker }) => worker === this.name);
    this.tell({ kind: 'start_generation', job: this.#job, term: 1, generation, rank, roster });
  }

  stopGeneration(): void {
    this.tell({ kind: 'stop_generation', job: this.#job });
  }

  /** Writes the partial to a slot of its own and publishes it. */
  publish(step: number, node: TreeNode, gradients: Gradients): void {
    const slot = this.write(node, gradients);
    this.tell({ kind: 'publish_partial', job: this.#job, step, node, slot, facts: gradients.factsOf(node) });
  }

  /** Writes the partial to a slot of its own, and returns its number. */
  write(node: TreeNode, gradients: Gradients): number {
    const slot = this.#nextSlot++;
    const bytes = slotBytes(this.#shape.elements * 4);
    this.file.grow(bytes * (slot + 1));
    this.file
      .map(bytes * slot, bytes)
      .floats(0, this.#shape.elements)
      .set(gradients.of(node));
    return slot;
  }

  reduce(step: number, placements: readonly Placement[]): void {
    this.tell({ kind: 'reduce', job: this.#job, step, placements });
  }

  /** The next event of the kind that nobody has taken yet. */
  async next<K extends DataPlaneEvent['kind']>(kind: K, withinMs = WAIT_MS): Promise<EventOf<K>> {
    const isWanted = (event: DataPlaneEvent): event is EventOf<K> => event.kind === kind;
    const known = this.events.find(isWanted);
    if (known !== undefined) {
      this.events.splice(this.events.indexOf(known), 1);
      return known;
    }
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${this.name} heard no ${kind} within ${withinMs} ms`)),
        withinMs,
      );
      this.#waiting.push({
        kind,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
      });
    });
    return this.next(kind, withinMs);
  }

  #heard(event: DataPlaneEvent): void {
    this.events.push(event);
    const woken = this.#waiting.filter(({ kind }) => kind === event.kind);
    this.#waiting = this.#waiting.filter(({ kind }) => kind !== event.kind);
    for (const { resolve } of woken) resolve();
  }

  /** The reduced vector of a step, as it lies in its slot. */
  reduced(step: number): Float32Array {
    const bytes = slotBytes(this.#shape.elements * 4);
    return this.file
      .map(bytes * (step % 2), bytes)
      .floats(0, this.#shape.elements)
      .slice();
  }

  async close(): Promise<void> {
    await this.#plane?.close();
    this.#file?.close();
  }
}

/** Data planes that the tests of one file share: a thread takes long to start. Each test opens a job of its own. */
export class Cluster {
  #jobs = 0;

  private constructor(readonly workers: readonly TestWorker[]) {}

  /**
   * With `sameHost` they read each other's memory; otherwise everything goes through sockets. `hosts` are addresses of this machine to
   * listen on, of each worker in turn; by default all are on one.
   */
  static async start(
    count: number,
    {
      sameHost = false,
      hosts = ['127.0.0.1'],
    }: { readonly sameHost?: boolean; readonly hosts?: readonly string[] } = {},
  ): Promise<Cluster> {
    const starting = Array.from({ length: count }, (_, rank) =>
      TestWorker.start(`w${rank}`, sameHost, hosts[rank % hosts.length]),
    );
    return new Cluster(await Promise.all(starting));
  }

  /** A new job on the first `count` workers. */
  open(count: number, shape: Shape): readonly TestWorker[] {
    this.#jobs++;
    const workers = this.workers.slice(0, count);
    for (const worker of workers) worker.open(`job-${this.#jobs}`, shape);
    return workers;
  }

  /** The same, with generation 1 started on all of them. */
  begin(count: number, shape: Shape): readonly TestWorker[] {
    const workers = this.open(count, shape);
    const roster = workers.map(({ peer }) => peer);
    for (const worker of workers) worker.startGeneration(1, roster);
    return workers;
  }

  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.close()));
  }
}

/** Contiguous blocks whose lengths follow the weights, each covered by the fewest nodes. */
export function placementsFor(microbatches: number, weights: readonly number[]): readonly Placement[] {
  return blocksFor(microbatches, weights).flatMap((block, rank) =>
    coverOf(block, microbatches).map((node) => ({ node, rank })),
  );
}

/** Each worker's own partials, then the reduce on all of them. Resolves with their `reduced` events. */
export async function reduceOn(
  workers: readonly TestWorker[],
  step: number,
  placements: readonly Placement[],
  gradients: Gradients,
): Promise<readonly EventOf<'reduced'>[]> {
  workers.forEach((worker, rank) => {
    worker.reduce(step, placements);
    for (const placement of placements) if (placement.rank === rank) worker.publish(step, placement.node, gradients);
  });
  return Promise.all(workers.map((worker) => worker.next('reduced')));
}

/** Bit patterns, because NaN differs from itself and zero has two signs. */
export function bitsOf(vector: Float32Array): Buffer {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
}
