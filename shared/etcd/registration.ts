/**
 * Keeps one key in etcd for as long as this process lives: under a lease that is renewed, granted anew when it was lost, and
 * revoked at the end. A failure of etcd is never more than a log line and a later attempt.
 */
import { BackOff, pause } from './back_off.js';
import type { EtcdClient, EtcdLog } from './client.js';
import { deferred } from './deferred.js';
import { EtcdLeaseLost } from './errors.js';
import { FailureLog } from './failure_log.js';

export interface RegisterOptions {
  readonly client: EtcdClient;
  readonly key: string;
  readonly value: string;
  readonly ttlSeconds: number;
  /** The lease was lost, so others may have seen the key vanish. It is being put again already. Must not throw. */
  readonly onLost: (reason: string) => void;
  readonly log: EtcdLog;
  /** How often the key is read back and repaired. */
  readonly resyncMs?: number | undefined;
}

export interface Registration {
  /** Replaces the value, now or as soon as etcd can be reached. */
  update(value: string): void;
  /** Resolves when the key is stored for the first time. */
  readonly registered: Promise<void>;
  /** Deletes the key and ends; gives up deleting after one call timeout, the lease then expires by itself. */
  close(): Promise<void>;
}

const defaultResyncMs = 30_000;

export function register(options: RegisterOptions): Registration {
  return new KeptKey(options);
}

class KeptKey implements Registration {
  readonly registered: Promise<void>;
  readonly #options: RegisterOptions;
  readonly #firstStored = deferred();
  readonly #closed = new AbortController();
  readonly #failures: FailureLog;
  readonly #backOff = new BackOff({ firstMs: 100, maxMs: 2000 });
  readonly #run: Promise<void>;
  #wanted: string;
  #stored: string | undefined;
  #lease: string | undefined;
  /** Ends the pause between two keepalives. */
  #wake = new AbortController();

  constructor(options: RegisterOptions) {
    this.#options = options;
    this.#failures = new FailureLog(options.log, `registration of ${options.key}`);
    this.#wanted = options.value;
    this.registered = this.#firstStored.promise;
    this.#run = this.#keep();
  }

  update(value: string): void {
    this.#wanted = value;
    this.#wake.abort();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#wake.abort();
    await this.#run;
  }

  async #keep(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      try {
        await this.#keepLease();
      } catch (error) {
        await this.#afterFailure(error);
      }
    }
    await this.#revoke();
  }

  /** Everything that one lease goes through; ends by an exception, or when closed. */
  async #keepLease(): Promise<void> {
    const { client, ttlSeconds } = this.#options;
    if (this.#lease === undefined) {
      this.#lease = (await client.grantLease(ttlSeconds)).lease;
      this.#stored = undefined;
    }
    const lease = this.#lease;
    let checkedMs = performance.now();
    while (!this.#closed.signal.aborted) {
      const resync = performance.now() - checkedMs >= (this.#options.resyncMs ?? defaultResyncMs);
      if (resync) {
        checkedMs = performance.now();
        await this.#check(lease);
      }
      if (this.#stored !== this.#wanted) await this.#put(lease);
      this.#backOff.reset();
      this.#failures.succeeded();
      await this.#pauseUntilWoken((ttlSeconds * 1000) / 3);
      if (!this.#closed.signal.aborted) await client.keepAlive(lease);
    }
  }

  async #put(lease: string): Promise<void> {
    const { client, key } = this.#options;
    const value = this.#wanted;
    this.#stored = undefined;
    await client.put(key, value, lease);
    this.#stored = value;
    this.#firstStored.resolve();
  }

  /** Somebody may have deleted or overwritten the key, and a put that timed out may have come late. */
  async #check(lease: string): Promise<void> {
    const { client, key, log } = this.#options;
    const { entry } = await client.get(key);
    if (entry?.value === this.#stored && entry?.lease === lease) return;
    log.warn('registration was changed by somebody else, putting it again', { key });
    this.#stored = undefined;
  }

  async #afterFailure(error: unknown): Promise<void> {
    const { onLost, ttlSeconds } = this.#options;
    if (this.#closed.signal.aborted) return;
    this.#failures.failed(error);
    if (error instanceof EtcdLeaseLost) {
      this.#lease = undefined;
      onLost(String(error));
      // All leases may have been lost at once: spread the return of many processes over a quarter of the TTL.
      await pause(Math.random() * ttlSeconds * 250, this.#closed.signal);
    } else {
      await this.#backOff.wait(this.#closed.signal);
    }
  }

  async #pauseUntilWoken(ms: number): Promise<void> {
    if (this.#stored === this.#wanted && !this.#closed.signal.aborted) {
      this.#wake = new AbortController();
      await pause(ms, this.#wake.signal);
    }
  }

  async #revoke(): Promise<void> {
    if (this.#lease === undefined) return;
    const { client, key, log } = this.#options;
    await client
      .revokeLease(this.#lease)
      .catch((error) => log.warn('registration was not deleted, it expires by itself', { key, error: String(error) }));
  }
}
