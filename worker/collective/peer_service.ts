/** What both ends of the Peer service agree on: its path, how messages become bytes, and their bounds. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { WireError } from '../../shared/wire/codec.js';
import { type PullRequest, pullRequest } from '../../shared/wire/peer.js';
import { PeerClient } from '../../shared/wire/services.js';
import { CHUNK_BYTES } from './segments.js';

/** A chunk and its header, or a document of facts (19 bytes a microbatch, at most 65,535 of them). */
export const MOST_FRAME_BYTES = 4 * CHUNK_BYTES;
export const MOST_REQUEST_BYTES = 4096;

/** Initial metadata in which a server says its incarnation. */
export const INCARNATION_KEY = 'lockstep-incarnation';

const pullMethod = PeerClient.service['Pull'];
if (pullMethod === undefined) throw new Error('proto/peer.proto has no Pull');

export const PULL_PATH = pullMethod.path;

const serializeWire = pullMethod.requestSerialize;

export function serializePullRequest(request: PullRequest): Buffer {
  return serializeWire(pullRequest.encode(request, 'PullRequest'));
}

/** The request in what proto-loader has decoded, or undefined when it is malformed. */
export function decodePullRequest(wire: unknown): PullRequest | undefined {
  try {
    const request = pullRequest.decode(wire, 'PullRequest');
    return fitsFrame(request) ? request : undefined;
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

/** Whether the request's names fit the fields of the frames that would answer it. */
function fitsFrame({ generation, step, nodeLo, nodeLength }: PullRequest): boolean {
  return generation <= 0xffffffff && step <= 0xffffffff && nodeLo <= 0xffff && nodeLength <= 0xffff;
}

/** Answers are raw frames: no protobuf, no copy. */
export const peerService: ServiceDefinition = {
  Pull: { ...pullMethod, responseSerialize: (frame: Buffer) => frame, responseDeserialize: (frame: Buffer) => frame },
};
