/** The join tokens that nobody has used yet, in etcd: each is found by the digest of its secret, ends by itself, and is used up by one transaction. */
import { z } from 'zod';
import type { EtcdClient } from '../../shared/etcd/client.js';
import { EtcdFailure } from '../../shared/etcd/errors.js';
import { joinTokenKey, joinTokensFolder } from '../../shared/etcd/keys.js';
import { type JoinToken, secretDigest } from '../../shared/identity/join_token.js';

const MOST_TOKENS = 1_000;

const record = z.object({ worker: z.string(), expiresMs: z.number() });

/** There are too many that nobody has used. */
export class TooManyTokens extends Error {}

/** A token that was good when it was looked at. */
export interface FoundToken {
  readonly key: string;
  readonly modRevision: number;
}

export class JoinTokens {
  constructor(
    private readonly client: EtcdClient,
    private readonly wallMs: () => number = Date.now,
  ) {}

  /** The time at which it expires, milliseconds since 1970. */
  async add(token: JoinToken, lifetimeMs: number): Promise<number> {
    const { entries } = await this.client.list({ kind: 'prefix', prefix: joinTokensFolder });
    if (entries.length >= MOST_TOKENS) throw new TooManyTokens(`${MOST_TOKENS} tokens wait to be used already`);
    const { lease } = await this.client.grantLease(Math.ceil(lifetimeMs / 1000));
    const expiresMs = this.wallMs() + lifetimeMs;
    await this.client.put(
      joinTokenKey(secretDigest(token)),
      JSON.stringify({ worker: token.worker, expiresMs }),
      lease,
    );
    return expiresMs;
  }

  /** Why the token is not good, or where it is kept. A lease ends a little late; the time that is written does not. */
  async find(token: JoinToken): Promise<FoundToken | string> {
    const key = joinTokenKey(secretDigest(token));
    const { entry } = await this.client.get(key);
    if (entry === undefined) return 'the token is not known: it was used, it has expired, or it never was';
    const kept = record.safeParse(JSON.parse(entry.value)).data;
    if (kept === undefined) return 'what is kept of the token cannot be read';
    if (kept.worker !== token.worker) return 'the token is for another worker';
    if (this.wallMs() >= kept.expiresMs) return 'the token has expired';
    return { key, modRevision: entry.modRevision };
  }

  /** True once for each token, whoever asks, and however many at the same time. When that cannot be known it counts as used. */
  async use({ key, modRevision }: FoundToken): Promise<boolean> {
    try {
      const { succeeded } = await this.client.transact({
        when: [{ key, field: 'modRevision', equals: modRevision }],
        success: [{ kind: 'delete', key }],
      });
      return succeeded;
    } catch (error) {
      if (error instanceof EtcdFailure && error.mayHaveHappened) return false;
      throw error;
    }
  }
}
