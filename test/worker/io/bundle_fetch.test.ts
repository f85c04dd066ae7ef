/** Fetching an archive from servers that answer as coordinators do, or worse. */
import { Server, ServerCredentials, type ServerWritableStream, status } from '@grpc/grpc-js';
import { afterEach, expect, it } from 'vitest';
import { BundleError } from '../../../shared/bundle/bundle_error.js';
import { MAX_PACKED_BYTES, WIRE_PIECE_BYTES } from '../../../shared/bundle/limits.js';
import { sha256Of } from '../../../shared/bundle/pack.js';
import { bundlePiece } from '../../../shared/wire/bundles.js';
import { BundlesClient } from '../../../shared/wire/services.js';
import { BundleUnreachable, fetchBundle } from '../../../worker/io/bundle_fetch.js';

type Fetch = ServerWritableStream<unknown, unknown>;

const archive = Buffer.from('an archive'.repeat(1000));
const sha256 = sha256Of(archive);
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

async function serve(answer: (call: Fetch, tries: number) => void) {
  let tries = 0;
  const server = new Server();
  const unimplemented = (_: unknown, reply: (error: object) => void) => reply({ code: status.UNIMPLEMENTED });
  const Fetch = (call: Fetch) => {
    tries += 1;
    answer(call, tries);
  };
  server.addService(BundlesClient.service, { Find: unimplemented, Upload: unimplemented, Fetch });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  closing.push(() => server.forceShutdown());
  return { term: 1, name: 'c1', address: `127.0.0.1:${port}` };
}

function give(call: Fetch, data: Buffer): void {
  call.write(bundlePiece.encode({ data }, 'BundlePiece'));
}

const never = new AbortController().signal;

it('gets the pieces in order', async () => {
  const leader = await serve((call) => {
    give(call, archive.subarray(0, 4000));
    give(call, archive.subarray(4000));
    call.end();
  });
  expect((await fetchBundle(sha256, () => leader, never)).equals(archive)).toBe(true);
});

it('goes on until a whole archive comes: past a refusal, a stream that breaks, and bytes that were changed', async () => {
  const leader = await serve((call, tries) => {
    if (tries === 1) call.emit('error', { code: status.ABORTED, details: 'busy' });
    else if (tries === 2) {
      give(call, archive.subarray(0, 4000));
      call.emit('error', { code: status.UNAVAILABLE, details: 'gone' });
    } else {
      give(call, tries === 3 ? Buffer.alloc(archive.length) : archive);
      call.end();
    }
  });
  expect((await fetchBundle(sha256, () => leader, never)).equals(archive)).toBe(true);
});

it('waits for a leader, and goes to the next one', async () => {
  const leader = await serve((call) => {
    give(call, archive);
    call.end();
  });
  let asked = 0;
  const next = () => {
    asked += 1;
    if (asked === 1) return undefined;
    return asked === 2 ? { ...leader, address: '127.0.0.1:1' } : leader;
  };
  expect((await fetchBundle(sha256, next, never)).equals(archive)).toBe(true);
});

it('gives up at once where there is no such archive', async () => {
  const leader = await serve((call) => call.emit('error', { code: status.NOT_FOUND, details: 'it is not there' }));
  const fetching = fetchBundle(sha256, () => leader, never);
  await expect(fetching).rejects.toThrow(BundleError);
  await expect(fetching).rejects.toThrow('it is not there');
});

it('takes no more than an archive may have', async () => {
  const leader = await serve((call) => {
    const piece = Buffer.alloc(WIRE_PIECE_BYTES);
    for (let sent = 0; sent <= MAX_PACKED_BYTES; sent += piece.length) give(call, piece);
    call.end();
  });
  await expect(fetchBundle(sha256, () => leader, never)).rejects.toThrow(/longer than it may be/);
});

it('ends when nobody wants it any more', async () => {
  const leader = await serve(() => undefined);
  const stopped = new AbortController();
  const fetching = fetchBundle(sha256, () => leader, stopped.signal);
  setTimeout(() => stopped.abort(), 100);
  await expect(fetching).rejects.toThrow(BundleUnreachable);
});
