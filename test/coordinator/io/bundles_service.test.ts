/** The bundles service over real gRPC, with archives in memory. */
import {
  type ClientReadableStream,
  type ClientWritableStream,
  credentials,
  Server,
  ServerCredentials,
  status,
} from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { uploadOnce } from '../../../cli/bundle_upload.js';
import { isServiceError } from '../../../cli/call_errors.js';
import { BundleKeeper, NoRoomForBundle } from '../../../coordinator/io/bundle_keeper.js';
import { BundleStore } from '../../../coordinator/io/bundle_store.js';
import { BundlesService } from '../../../coordinator/io/bundles_service.js';
import { MAX_PACKED_BYTES } from '../../../shared/bundle/limits.js';
import { sha256Of } from '../../../shared/bundle/pack.js';
import { connectEtcd } from '../../../shared/etcd/client.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import { createLogger } from '../../../shared/logger.js';
import { bundlePiece, bundleReference, type UploadMessage, uploadMessage } from '../../../shared/wire/bundles.js';
import { BundlesClient } from '../../../shared/wire/services.js';

const spec = parseJobSpec('version: 1\nname: x\ntask: a.py:A\nsteps: 2\nbatch: 4\nmicrobatches: 2');
const archive = Buffer.from('0123456789'.repeat(100_000));
const sha256 = sha256Of(archive);
const never = new AbortController().signal;

const kept = new Map<string, Buffer>();
let leads = true;
let full = false;
let server: Server;
let client: InstanceType<typeof BundlesClient>;

class MemoryStore extends BundleStore {
  override async read(digest: string): Promise<Buffer | undefined> {
    return kept.get(digest);
  }
}

class MemoryKeeper extends BundleKeeper {
  override reserve(digest: string): boolean {
    return kept.has(digest);
  }

  override async keep(digest: string, content: Buffer): Promise<void> {
    if (full) throw new NoRoomForBundle('there is no room for the code');
    kept.set(digest, content);
  }
}

beforeEach(async () => {
  kept.clear();
  leads = true;
  full = false;
  const log = createLogger('coordinator', 'c1', 'error');
  const store = new MemoryStore(connectEtcd({ endpoints: ['http://127.0.0.1:1'], prefix: '/x/', callTimeoutMs: 1 }));
  const inUse = () => ({ needed: new Set<string>(), remembered: [] });
  const keeper = new MemoryKeeper({ store, inUse, term: () => 1, log });
  keeper.close();
  const service = new BundlesService({ keeper, store, leads: () => leads, leader: () => 'other:1', log });
  server = new Server();
  server.addService(BundlesClient.service, service.implementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  client = new BundlesClient(`127.0.0.1:${port}`, credentials.createInsecure());
});
afterEach(() => {
  client.close();
  server.forceShutdown();
});

/** How an upload of these messages is refused: the code and the words. */
function refusalOf(messages: readonly UploadMessage[]): Promise<readonly [number, string]> {
  return new Promise((resolve) => {
    const stream: ClientWritableStream<unknown> = client['upload']?.((error: unknown) => {
      resolve(isServiceError(error) ? [error.code, error.details] : [status.OK, '']);
    });
    stream.on('error', () => undefined);
    for (const message of messages) stream.write(uploadMessage.encode(message, 'UploadMessage'));
    stream.end();
  });
}

const header = { kind: 'header', sha256, bytes: archive.length, spec } as const;
const pieces = Array.from({ length: 10 }, (_, i) => ({
  ...{ kind: 'piece' as const, data: archive.subarray(i * 100_000, (i + 1) * 100_000) },
}));

async function fetched(digest: string): Promise<Buffer> {
  const request = bundleReference.encode({ sha256: digest }, 'BundleReference');
  const stream: ClientReadableStream<unknown> = client['fetch']?.(request);
  const got: Uint8Array[] = [];
  for await (const wire of stream) got.push(bundlePiece.decode(wire, 'BundlePiece').data);
  return Buffer.concat(got);
}

it('what was uploaded is fetched as it was', async () => {
  await uploadOnce(client, { sha256, archive }, spec, never);
  expect((await fetched(sha256)).equals(archive)).toBe(true);
});

it('an archive of the greatest size passes', async () => {
  const large = Buffer.alloc(MAX_PACKED_BYTES, 7);
  await uploadOnce(client, { sha256: sha256Of(large), archive: large }, spec, never);
  expect((await fetched(sha256Of(large))).equals(large)).toBe(true);
});

describe('an upload is refused, and nothing stored, with', () => {
  it.each<[string, readonly UploadMessage[], number, RegExp]>([
    [
      'a bad spec',
      [{ ...header, spec: { ...spec, microbatches: 3 } }, ...pieces],
      3,
      /microbatches: must divide batch/,
    ],
    ['a digest that is none', [{ ...header, sha256: '../x' }, ...pieces], 3, /64 hexadecimal digits/],
    ['another digest than its bytes have', [{ ...header, sha256: '0'.repeat(64) }, ...pieces], 10, /another sha256/],
    ['too many bytes', [header, ...pieces, ...pieces], 3, /longer than its header says/],
    ['too few bytes', [header, ...pieces.slice(1)], 10, /did not arrive whole/],
    ['more bytes than may be', [{ ...header, bytes: MAX_PACKED_BYTES + 1 }], 3, /more than 16 MiB when packed/],
    ['no header', pieces, 3, /begins with its header/],
    ['two headers', [header, header], 3, /one header/],
    ['nothing at all', [], 3, /begins with its header/],
  ])('%s', async (_, messages, code, says) => {
    const [refused, details] = await refusalOf(messages);
    expect([refused, details]).toEqual([code, expect.stringMatching(says)]);
    expect(kept.size).toBe(0);
  });
});

it('a refusal reaches whoever is still sending', async () => {
  const large = Buffer.alloc(MAX_PACKED_BYTES, 7);
  const bad = { ...spec, microbatches: 3 };
  await expect(uploadOnce(client, { sha256: sha256Of(large), archive: large }, bad, never)).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
  });
});

it('there being no room is no reason to try again', async () => {
  full = true;
  expect(await refusalOf([header, ...pieces])).toEqual([status.RESOURCE_EXHAUSTED, 'there is no room for the code']);
});

it('a coordinator that does not lead takes no upload, and yet gives what is there', async () => {
  await uploadOnce(client, { sha256, archive }, spec, never);
  leads = false;
  await expect(uploadOnce(client, { sha256, archive }, spec, never)).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
  });
  expect((await fetched(sha256)).equals(archive)).toBe(true);
});

it('an archive that is not there is not found, also when asked for again', async () => {
  for (let i = 0; i < 2; i++) await expect(fetched(sha256)).rejects.toMatchObject({ code: status.NOT_FOUND });
  kept.set(sha256, archive);
  expect((await fetched(sha256)).equals(archive)).toBe(true);
});

it('an upload that is broken off leaves nothing', async () => {
  const stopped = new AbortController();
  const uploading = uploadOnce(client, { sha256, archive }, spec, stopped.signal);
  stopped.abort();
  await expect(uploading).rejects.toMatchObject({ code: status.CANCELLED });
  expect(kept.size).toBe(0);
});
