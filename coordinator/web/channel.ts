/**
 * What several pages look at together: a row of deltas with numbers, of which the newest are kept, and a snapshot for whoever comes new.
 * Each becomes JSON once, however many look.
 */

export interface ChannelMessage {
  readonly number: number;
  readonly bytes: Buffer;
}

export interface ChannelSource {
  /** What has changed since the last call; undefined for nothing. */
  takeDelta(): object | undefined;
  /** All that the deltas so far have led to. */
  snapshot(): object;
}

export interface ChannelOptions {
  readonly source: ChannelSource;
  /** Fields that every message carries, such as the job. */
  readonly label: Readonly<Record<string, string>>;
  readonly kind: 'cluster' | 'job';
  /** Deltas are counted from here on: above all numbers of an earlier channel of the same name, which pages may still have. */
  readonly after?: number;
  /** Deltas that are kept for those who come back. */
  readonly maxKeptBytes?: number;
}

const MAX_KEPT_BYTES = 262_144;

export class Channel {
  readonly #options: ChannelOptions;
  readonly #maxKeptBytes: number;
  #number: number;
  #kept: ChannelMessage[] = [];
  #keptBytes = 0;
  #snapshot: ChannelMessage | undefined;

  constructor(options: ChannelOptions) {
    this.#options = options;
    this.#number = options.after ?? 0;
    this.#maxKeptBytes = options.maxKeptBytes ?? MAX_KEPT_BYTES;
  }

  /** Of the newest delta. */
  get number(): number {
    return this.#number;
  }

  /** The delta since the last call, if there is one. */
  advance(): ChannelMessage | undefined {
    const data = this.#options.source.takeDelta();
    if (data === undefined) return undefined;
    this.#number += 1;
    this.#snapshot = undefined;
    const message = this.#message('delta', data);
    this.#keep(message);
    return message;
  }

  /** State as of the newest delta. */
  snapshot(): ChannelMessage {
    this.#snapshot ??= this.#message('snapshot', this.#options.source.snapshot());
    return this.#snapshot;
  }

  /** What came after delta `number`; undefined if not all of it is kept. */
  since(number: number): readonly ChannelMessage[] | undefined {
    if (number === this.#number) return [];
    const first = this.#kept[0]?.number;
    if (first === undefined || number + 1 < first || number > this.#number) return undefined;
    return this.#kept.slice(number + 1 - first);
  }

  #message(what: 'delta' | 'snapshot', data: object): ChannelMessage {
    const { kind, label } = this.#options;
    const number = this.#number;
    return { number, bytes: Buffer.from(JSON.stringify({ kind: `${kind}_${what}`, ...label, number, data })) };
  }

  #keep(message: ChannelMessage): void {
    this.#kept.push(message);
    this.#keptBytes += message.bytes.length;
    let dropped = 0;
    while (this.#keptBytes > this.#maxKeptBytes) {
      this.#keptBytes -= this.#kept[dropped]?.bytes.length ?? 0;
      dropped += 1;
    }
    if (dropped > 0) this.#kept = this.#kept.slice(dropped);
  }
}
