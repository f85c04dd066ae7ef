/**
 * The one gate to etcd. It wraps etcd3's low-level clients, because the high-level ones have traps:
 * a circuit breaker that stays open for five seconds, retries of writes that may have happened, calls without a deadline,
 * watchers and leases whose unhandled events crash the process. Here every call has a deadline, every failure is an
 * EtcdFailure, nothing is retried but reads, and streams report their end exactly once.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { noop } from 'cockatiel';
import { castGrpcError, Etcd3, type ICompare, type IKeyValue, type IRequestOp, type ITxnRequest, Range } from 'etcd3';
import type { Credentials } from '../identity/credential_files.js';
import type { CredentialSource } from '../identity/kept_credentials.js';
import { ETCD_NAME } from '../identity/tls_options.js';
import {
  asEtcdFailure,
  EtcdCompacted,
  type EtcdFailure,
  EtcdLeaseLost,
  EtcdTimedOut,
  EtcdTooLarge,
  EtcdUnavailable,
} from './errors.js';

/** What this folder needs of a logger; winston's fits. */
export interface EtcdLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface ConnectEtcdOptions {
  /**
   * `http://host:port` or `https://host:port`, one or more members of one etcd cluster. One is used, at first the first, until it fails; then
   * the next.
   */
  readonly endpoints: readonly string[];
  /** Put before every key, for example `/lockstep/`. Not empty. */
  readonly prefix: string;
  /** Deadline of a call that names none of its own. */
  readonly callTimeoutMs: number;
  /** For https endpoints. Etcd's certificate must have the name ETCD_NAME. */
  readonly credentials?: CredentialSource | undefined;
}

/** A key and its value as stored at some revision; `key` is without the client's prefix. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** Id of the lease that the key is under, '0' for none. */
  readonly lease: string;
}

/** One key, or all keys that begin with a prefix. */
export type KeyRange =
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'prefix'; readonly prefix: string };

export type Operation =
  | { readonly kind: 'put'; readonly key: string; readonly value: string; readonly lease?: string | undefined }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'get'; readonly key: string };

/** A condition of a transaction. A key that does not exist has the revisions 0. */
export interface Comparison {
  readonly key: string;
  readonly field: 'createRevision' | 'modRevision';
  readonly equals: number;
}

export interface Transaction {
  readonly when: readonly Comparison[];
  readonly success: readonly Operation[];
  readonly failure?: readonly Operation[] | undefined;
}

export interface TransactionResult {
  /** Whether all conditions held. */
  readonly succeeded: boolean;
  /** Revision of the store after the transaction. */
  readonly revision: number;
  /** What the `get` operations of the branch that was taken found, in their order. */
  readonly found: readonly (Entry | undefined)[];
}

export interface Listing {
  /** Revision at which the entries were read. */
  readonly revision: number;
  /** In key order. */
  readonly entries: readonly Entry[];
}

export type Change =
  | { readonly kind: 'put'; readonly entry: Entry }
  | { readonly kind: 'deleted'; readonly key: string; readonly revision: number };

export interface WatchOptions {
  readonly range: KeyRange;
  /** First revision whose changes are wanted. */
  readonly startRevision: number;
  /** The changes of one or more whole revisions, the newest of which is `revision`. */
  readonly onChanges: (changes: readonly Change[], revision: number) => void;
  /** Called once, when the watch is dead for whatever reason but `close`. */
  readonly onEnd: (failure: EtcdFailure) => void;
}

export interface ListOptions {
  /** Read at this revision; default is now. */
  readonly revision?: number | undefined;
  /** More entries than this are an error, because nothing here may grow without bound. */
  readonly maxEntries?: number | undefined;
}

const pageEntries = 128;
const maxMessageBytes = 64 * 1024 * 1024;
/** So many fit a message however long they are: etcd takes requests of 1.5 MiB. */
const longEntries = 40;
const readAttempts = 3;
const readRetryMs = 50;

const channelOptions = {
  'grpc.max_receive_message_length': maxMessageBytes,
  // A call that timed out makes etcd3 open a new channel; with an own pool that is also a new connection, so a host that
  // vanished without a FIN is left behind at once.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  // A watch on a dead connection hangs silently otherwise. etcd's default enforcement refuses pings closer than 5 s.
  'grpc.keepalive_time_ms': 6000,
  'grpc.keepalive_timeout_ms': 4000,
  // Without this an http_proxy in the environment would come between.
  'grpc.enable_http_proxy': 0,
  'grpc.ssl_target_name_override': ETCD_NAME,
};

export function connectEtcd(options: ConnectEtcdOptions): EtcdClient {
  return new EtcdClient(options);
}

/** Connections to one member that were made with the same certificate. */
interface Connections {
  readonly etcd: Etcd3;
  watches: number;
  /** Nothing new is begun on them, and what was begun has had its time. */
  retired: boolean;
}

export class EtcdClient {
  readonly callTimeoutMs: number;
  readonly #options: ConnectEtcdOptions;
  readonly #prefix: Buffer;
  /** Place of the member in use among the endpoints. */
  #member = 0;
  #now: Connections;
  /** Of older certificates, or to a member that has failed: there until their last watch has ended. */
  readonly #before = new Set<Connections>();
  #closed = false;

  constructor(options: ConnectEtcdOptions) {
    if (options.prefix.length === 0) throw new RangeError('the prefix of an etcd client must not be empty');
    this.callTimeoutMs = options.callTimeoutMs;
    this.#options = options;
    this.#prefix = Buffer.from(options.prefix);
    this.#now = this.#connect();
    options.credentials?.onChange(() => this.#reconnect());
  }

  get #etcd(): Etcd3 {
    return this.#now.etcd;
  }

  #connect(): Connections {
    const { endpoints } = this.#options;
    const credentials = this.#options.credentials?.current;
    const etcd = new Etcd3({
      hosts: endpoints[this.#member % endpoints.length] ?? [],
      grpcOptions: channelOptions,
      faultHandling: { host: () => noop, global: noop },
      ...(credentials === undefined ? {} : { credentials: etcdCredentials(credentials) }),
    });
    return { etcd, watches: 0, retired: false };
  }

  /** Calls that run on the old connections have their time to end; watches stay there until those break. */
  #reconnect(): void {
    if (this.#closed) return;
    const old = this.#now;
    this.#before.add(old);
    this.#now = this.#connect();
    const retire = (): void => {
      old.retired = true;
      this.#closeIfUnused(old);
    };
    setTimeout(retire, this.callTimeoutMs).unref();
  }

  /**
   * Leaves a member that cannot be reached or does not answer to the calls that are under way there. Were every call to try any member, a
   * dead one would cost a third of them their time, and a leader its lease.
   */
  #leave(member: Connections, failure: EtcdFailure): void {
    const isGone = failure instanceof EtcdUnavailable || failure instanceof EtcdTimedOut;
    if (!isGone || member !== this.#now || this.#options.endpoints.length < 2) return;
    this.#member += 1;
    this.#reconnect();
  }

  #closeIfUnused(connections: Connections): void {
    if (!connections.retired || connections.watches > 0 || !this.#before.delete(connections)) return;
    connections.etcd.close();
  }

  /** The newest committed value of a key, and the revision of the store at which it was read. */
  async get(key: string): Promise<{ readonly entry: Entry | undefined; readonly revision: number }> {
    const { entries, revision } = await this.list({ kind: 'key', key });
    return { entry: entries[0], revision };
  }

  /** All entries of a range at one revision, read in pages. */
  async list(range: KeyRange, options: ListOptions = {}): Promise<Listing> {
    const maxEntries = options.maxEntries ?? 100_000;
    const bytes = this.#bytes(range);
    const entries: Entry[] = [];
    let revision = options.revision;
    let from = bytes.key;
    for (;;) {
      const page = await this.#page({ ...bytes, key: from }, revision, describe(range));
      revision ??= Number(page.header.revision);
      for (const pair of page.kvs) entries.push(this.#entry(pair));
      if (entries.length > maxEntries) {
        throw new EtcdTooLarge(`list ${describe(range)}`, `there are more than ${maxEntries} entries`);
      }
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { revision, entries };
      from = Buffer.concat([last.key, Buffer.from([0])]);
    }
  }

  /** One transaction. `mayHaveHappened` of the failure says whether it has to be read back. */
  async transact(transaction: Transaction, timeoutMs = this.callTimeoutMs): Promise<TransactionResult> {
    const request: ITxnRequest = {
      compare: transaction.when.map((condition) => this.#compare(condition)),
      success: transaction.success.map((operation) => this.#operation(operation)),
      failure: (transaction.failure ?? []).map((operation) => this.#operation(operation)),
    };
    const during = `transaction on ${[...transaction.when, ...transaction.success].map(({ key }) => key)[0] ?? 'nothing'}`;
    const result = await this.#call(during, () => this.#etcd.kv.txn(request, deadline(timeoutMs)));
    const branch = (result.succeeded ? transaction.success : transaction.failure) ?? [];
    const found = result.responses.flatMap((response, index) => {
      if (branch[index]?.kind !== 'get') return [];
      const pair = response.response_range.kvs[0];
      return [pair === undefined ? undefined : this.#entry(pair)];
    });
    return { succeeded: result.succeeded, revision: Number(result.header.revision), found };
  }

  async put(key: string, value: string, lease?: string): Promise<void> {
    await this.transact({ when: [], success: [{ kind: 'put', key, value, lease }] });
  }

  async delete(key: string): Promise<void> {
    await this.transact({ when: [], success: [{ kind: 'delete', key }] });
  }

  /** etcd may grant more than was asked for: its least TTL is one and a half of its election timeouts. */
  async grantLease(
    ttlSeconds: number,
    timeoutMs = this.callTimeoutMs,
  ): Promise<{ readonly lease: string; readonly ttlSeconds: number }> {
    const granted = await this.#call('grant a lease', () =>
      this.#etcd.leaseClient.leaseGrant({ TTL: ttlSeconds }, deadline(timeoutMs)),
    );
    return { lease: granted.ID, ttlSeconds: Number(granted.TTL) };
  }

  /** Deletes the lease and all keys under it. A lease that is gone already is no error. */
  async revokeLease(lease: string, timeoutMs = this.callTimeoutMs): Promise<void> {
    try {
      await this.#call('revoke a lease', () => this.#etcd.leaseClient.leaseRevoke({ ID: lease }, deadline(timeoutMs)));
    } catch (error) {
      if (!(error instanceof EtcdLeaseLost)) throw error;
    }
  }

  /** Renews the lease once; EtcdLeaseLost when there is no such lease any more. */
  async keepAlive(lease: string, timeoutMs = this.callTimeoutMs): Promise<void> {
    const during = 'keep a lease alive';
    const connections = this.#now;
    // A stream for each keepalive: the answer that comes belongs to what was sent, without any bookkeeping.
    const stream = await this.#call(during, () => this.#etcd.leaseClient.leaseKeepAlive(deadline(timeoutMs)));
    await new Promise<void>((resolve, reject) => {
      let isAnswered = false;
      const fail = (failure: EtcdFailure): void => {
        if (isAnswered) return;
        this.#leave(connections, failure);
        reject(failure);
      };
      stream.on('error', (error) => fail(asEtcdFailure(castGrpcError(error), during)));
      stream.on('end', () => fail(new EtcdUnavailable(during, 'the stream ended')));
      stream.on('data', (answer) => {
        isAnswered = true;
        stream.end();
        if (Number(answer.TTL) > 0) resolve();
        else reject(new EtcdLeaseLost(during, 'the lease is lost'));
      });
      stream.write({ ID: lease });
    });
  }

  /** Follows changes until the watch dies or is closed. It never comes back by itself: see RangeWatch. */
  watch(options: WatchOptions): { close(): void } {
    let over = false;
    let closeStream = (): void => {};
    const connections = this.#now;
    connections.watches++;
    const finish = (): void => {
      over = true;
      closeStream();
      connections.watches--;
      this.#closeIfUnused(connections);
    };
    const end = (error: unknown): void => {
      if (over) return;
      finish();
      const failure = asEtcdFailure(error, `watch ${describe(options.range)}`);
      this.#leave(connections, failure);
      options.onEnd(failure);
    };
    this.#openWatch(options, () => over, end).then((close) => {
      closeStream = close;
      if (over) close();
    }, end);
    return {
      close: () => {
        if (!over) finish();
      },
    };
  }

  /** Closes the connections; calls after that fail with EtcdClosed. First close what uses the client: it would try for ever. */
  close(): void {
    this.#closed = true;
    for (const { etcd } of [this.#now, ...this.#before]) etcd.close();
    this.#before.clear();
  }

  async #openWatch(options: WatchOptions, isOver: () => boolean, end: (error: unknown) => void): Promise<() => void> {
    const stream = await this.#etcd.watchClient.watch();
    stream.on('error', (error) => end(castGrpcError(error)));
    stream.on('end', () => end(new EtcdUnavailable(`watch ${describe(options.range)}`, 'the stream ended')));
    stream.on('data', (answer) => {
      if (isOver()) return;
      if (answer.canceled) {
        const compacted = Number(answer.compact_revision) > 0;
        const Failure = compacted ? EtcdCompacted : EtcdUnavailable;
        end(new Failure(`watch ${describe(options.range)}`, answer.cancel_reason || 'cancelled by etcd'));
        return;
      }
      const changes = answer.events.map((event): Change => {
        const entry = this.#entry(event.kv);
        return event.type === 'Put'
          ? { kind: 'put', entry }
          : { kind: 'deleted', key: entry.key, revision: entry.modRevision };
      });
      if (changes.length > 0) options.onChanges(changes, Number(answer.header.revision));
    });
    stream.write({ create_request: { ...this.#bytes(options.range), start_revision: String(options.startRevision) } });
    // Ended first, because etcd3 takes the error of a cancelled stream that is still writable for a failed host.
    return () => {
      stream.end();
      stream.cancel();
    };
  }

  async #page(bytes: { key: Buffer; range_end?: Buffer }, revision: number | undefined, what: string) {
    const request = { ...bytes, ...(revision === undefined ? {} : { revision }) };
    const read = (limit: number) =>
      this.#read(`read ${what}`, () => this.#etcd.kv.range({ ...request, limit }, deadline(this.callTimeoutMs)));
    try {
      return await read(pageEntries);
    } catch (error) {
      if (!(error instanceof EtcdTooLarge)) throw error;
      return read(longEntries);
    }
  }

  /** Reads are safe to repeat, and the first after etcd restarted often meets the broken connection. */
  async #read<T>(during: string, run: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#call(during, run);
      } catch (error) {
        if (!(error instanceof EtcdUnavailable) || attempt === readAttempts) throw error;
        await delay(readRetryMs * attempt);
      }
    }
  }

  async #call<T>(during: string, run: () => Promise<T>): Promise<T> {
    const connections = this.#now;
    try {
      return await run();
    } catch (error) {
      const failure = asEtcdFailure(error, during);
      this.#leave(connections, failure);
      throw failure;
    }
  }

  #bytes(range: KeyRange): { key: Buffer; range_end?: Buffer } {
    if (range.kind === 'key') return { key: this.#key(range.key) };
    const { start, end } = Range.prefix(this.#key(range.prefix));
    return { key: start, range_end: end };
  }

  #key(key: string): Buffer {
    return Buffer.concat([this.#prefix, Buffer.from(key)]);
  }

  #entry(pair: IKeyValue): Entry {
    return {
      key: pair.key.subarray(this.#prefix.length).toString(),
      value: pair.value.toString(),
      createRevision: Number(pair.create_revision),
      modRevision: Number(pair.mod_revision),
      lease: pair.lease,
    };
  }

  #compare(condition: Comparison): ICompare {
    const key = this.#key(condition.key);
    return condition.field === 'createRevision'
      ? { key, result: 'Equal', target: 'Create', create_revision: condition.equals }
      : { key, result: 'Equal', target: 'Mod', mod_revision: condition.equals };
  }

  #operation(operation: Operation): IRequestOp {
    const key = this.#key(operation.key);
    switch (operation.kind) {
      case 'get':
        return { request_range: { key } };
      case 'delete':
        return { request_delete_range: { key } };
      case 'put': {
        const value = Buffer.from(operation.value);
        return { request_put: operation.lease === undefined ? { key, value } : { key, value, lease: operation.lease } };
      }
    }
  }
}

function etcdCredentials({ ca, certificate, key }: Credentials) {
  return {
    rootCertificate: Buffer.from(ca),
    certChain: Buffer.from(certificate),
    privateKey: Buffer.from(key),
  };
}

/** Relative in effect: grpc-js turns it into a timer at once, so a jump of the wall clock does not stretch it. */
function deadline(timeoutMs: number): { deadline: number } {
  return { deadline: Date.now() + timeoutMs };
}

function describe(range: KeyRange): string {
  return range.kind === 'key' ? range.key : `${range.prefix}*`;
}
