import { afterAll, beforeAll, expect, it } from 'vitest';
import { PeerCall } from '../../../worker/collective/peer_call.js';
import { PROBE_BYTES } from '../../../worker/collective/peer_service.js';
import { probePeer } from '../../../worker/collective/probe_peer.js';
import { TestWorker } from './test_worker.js';

const self = { worker: 'w1', incarnation: 'i' };

let peer: TestWorker;
beforeAll(async () => {
  peer = await TestWorker.start('w2', true);
});
afterAll(() => peer.plane.close());

it('a peer that has no job sends test bytes, at a speed that is possible', async () => {
  const signal = new AbortController().signal;
  const bytesPerSecond = await probePeer({ address: peer.peer.peerAddress, ...self, signal });
  expect(bytesPerSecond).toBeGreaterThan(1e6);
  expect(bytesPerSecond).toBeLessThan(1e12);
});

it('a probe that is stopped says so, and one of nobody says why', async () => {
  const stopped = new AbortController();
  const probe = probePeer({ address: peer.peer.peerAddress, ...self, signal: stopped.signal });
  stopped.abort();
  await expect(probe).rejects.toThrow('it was stopped');
  const signal = new AbortController().signal;
  await expect(probePeer({ address: '127.0.0.1:1', ...self, signal })).rejects.toThrow(/ECONNREFUSED/);
});

it('whoever asks for more test bytes than are given at a time is cut off', async () => {
  const broke = new Promise<string>((resolve) => {
    const call = new PeerCall(peer.peer.peerAddress, { greeted: () => {}, data: () => {}, broke: resolve });
    call.send({
      ...{ request: 1, kind: 'probe', job: '', term: 0, generation: 0, step: 0, nodeLo: 0, nodeLength: 0, bucket: 0 },
      ...{ segment: 0, segments: 0, offset: 1, length: PROBE_BYTES, ...self, sameHost: false },
    });
  });
  expect(await broke).toMatch(/malformed request/);
});
