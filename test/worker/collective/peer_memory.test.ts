import { expect, it, onTestFinished } from 'vitest';
import { slotBytes } from '../../../worker/collective/data_plane.js';
import type { MemoryPlace } from '../../../worker/collective/facts.js';
import { Epoch, hostHeader, inodeOf, PeerMemory, pidOnOurHost } from '../../../worker/collective/peer_memory.js';
import { MemoryFile } from '../../../worker/io/memory_file.js';

const VECTOR_BYTES = 8192;

function made() {
  const file = MemoryFile.create('exchange');
  file.grow(3 * slotBytes(VECTOR_BYTES));
  const epoch = new Epoch('epoch');
  let open = true;
  const close = (): void => {
    if (open) for (const one of [epoch, file]) one.close();
    open = false;
  };
  onTestFinished(close);
  const files = { fd: file.fd, inode: inodeOf(file.fd), epochFd: epoch.fd, epochInode: inodeOf(epoch.fd) };
  const place: MemoryPlace = { ...files, epoch: epoch.value, slot: 2, at: 64, length: 128 };
  return { file, epoch, place, close };
}

it('a peer reads what lies in the slots, and sees when it does not count any more', () => {
  const { file, epoch, place } = made();
  const peer = new PeerMemory(process.pid, place, VECTOR_BYTES);
  file
    .map(2 * slotBytes(VECTOR_BYTES), slotBytes(VECTOR_BYTES))
    .bytes(64, 128)
    .fill(7);
  expect(peer.bytes(2, 64, 128).equals(Buffer.alloc(128, 7))).toBe(true);
  expect(peer.epoch).toBe(place.epoch);
  epoch.advance();
  expect(peer.epoch).toBe(place.epoch + 1);
  peer.close();
});

it('a peer whose process has gone is read to the end, because its memory stays', () => {
  const { place, close } = made();
  const peer = new PeerMemory(process.pid, place, VECTOR_BYTES);
  close();
  expect(peer.bytes(2, 0, 128).equals(Buffer.alloc(128))).toBe(true);
  // Whoever closes says so first.
  expect(peer.epoch).not.toBe(place.epoch);
  peer.close();
});

it.each([
  ['a descriptor that is not open', { fd: 999_999 }],
  ['another file under the same descriptor', { inode: 1 }],
  ['another epoch', { epochInode: 1 }],
])('%s is refused', (_name, wrong) => {
  const { place } = made();
  expect(() => new PeerMemory(process.pid, { ...place, ...wrong }, VECTOR_BYTES)).toThrow();
});

it('only a worker on the same host is on the same host', () => {
  expect(pidOnOurHost(hostHeader())).toBe(process.pid);
  expect(pidOnOurHost(hostHeader().replace('net:[', 'net:[1'))).toBeUndefined();
  expect(pidOnOurHost('')).toBeUndefined();
});
