/** Gets an archive of code from whoever leads, tries again, and gives up with one clear error. */
import { type ClientReadableStream, type ServiceError, status } from '@grpc/grpc-js';
import { BundleError } from '../../shared/bundle/bundle_error.js';
import { MAX_PACKED_BYTES } from '../../shared/bundle/limits.js';
import { sha256Of } from '../../shared/bundle/pack.js';
import { BackOff } from '../../shared/etcd/back_off.js';
import type { Leader } from '../../shared/etcd/leader_watch.js';
import { channelCredentials, TLS_CHANNEL_OPTIONS } from '../../shared/identity/grpc_credentials.js';
import type { CredentialSource } from '../../shared/identity/kept_credentials.js';
import { bundlePiece, bundleReference } from '../../shared/wire/bundles.js';
import { BundlesClient } from '../../shared/wire/services.js';

/** Of all attempts together. The core waits longer for an engine. */
const FETCH_MS = 180_000;
const TRY_MS = 60_000;

const channelOptions = {
  'grpc.keepalive_time_ms': 2_000,
  'grpc.keepalive_timeout_ms': 2_000,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  ...TLS_CHANNEL_OPTIONS,
};

/** The archive could not be fetched now; another time it might. */
export class BundleUnreachable extends Error {
  override readonly name = 'BundleUnreachable';
}

/** Throws a BundleError where trying again would not help, and a BundleUnreachable when time is up or `signal` aborts. */
export async function fetchBundle(
  sha256: string,
  leader: () => Leader | undefined,
  signal: AbortSignal,
  credentials?: CredentialSource,
): Promise<Buffer> {
  const untilMs = performance.now() + FETCH_MS;
  const backOff = new BackOff({ firstMs: 100, maxMs: 2_000 });
  let problem = 'no coordinator leads';
  while (!signal.aborted && performance.now() < untilMs) {
    const now = leader();
    if (now !== undefined) {
      const outcome = await attempt(sha256, now, signal, credentials);
      if (outcome instanceof Buffer) return outcome;
      problem = `${now.address}: ${outcome}`;
    }
    await backOff.wait(signal);
  }
  throw new BundleUnreachable(`the code could not be fetched: ${problem}`);
}

/** The archive, or why it did not come. */
async function attempt(
  sha256: string,
  { name, address }: Leader,
  signal: AbortSignal,
  credentials: CredentialSource | undefined,
): Promise<Buffer | string> {
  const expected = { role: 'coordinator', name } as const;
  const client = new BundlesClient(address, channelCredentials(credentials?.current, expected), channelOptions);
  try {
    const archive = await received(openFetch(client, sha256), signal);
    return sha256Of(archive) === sha256 ? archive : 'what came has another sha256';
  } catch (error) {
    if (error instanceof BundleError) throw error;
    if (isServiceError(error) && error.code === status.NOT_FOUND) throw new BundleError(error.details);
    return error instanceof Error ? error.message : String(error);
  } finally {
    client.close();
  }
}

function openFetch(client: InstanceType<typeof BundlesClient>, sha256: string): ClientReadableStream<unknown> {
  const request = bundleReference.encode({ sha256 }, 'BundleReference');
  return client['fetch']?.(request, { deadline: Date.now() + TRY_MS });
}

/** Never more than an archive may have. */
async function received(stream: ClientReadableStream<unknown>, signal: AbortSignal): Promise<Buffer> {
  const abort = (): void => stream.cancel();
  signal.addEventListener('abort', abort);
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const wire of stream) {
      const { data } = bundlePiece.decode(wire, 'BundlePiece');
      bytes += data.length;
      if (bytes > MAX_PACKED_BYTES) throw new BundleError('the archive of code is longer than it may be');
      pieces.push(data);
    }
    return Buffer.concat(pieces);
  } finally {
    signal.removeEventListener('abort', abort);
    stream.cancel();
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}
