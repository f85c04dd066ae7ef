/** What both ends of the Peer service agree on: its path, how requests become bytes, and their bounds. */
import { WireError } from '../../shared/wire/codec.js';
import { type PullRequest, pullRequest } from '../../shared/wire/peer.js';
import { PeerClient } from '../../shared/wire/services.js';
import { CHUNK_BYTES } from './segments.js';

/** A chunk, or a document of facts (19 bytes a microbatch, at most 65,535 of them). */
export const MOST_PAYLOAD_BYTES = 4 * CHUNK_BYTES;
export const MOST_REQUEST_BYTES = 4096;
/** Test bytes of one request: some milliseconds of a network, so that an all-reduce beside it loses no more than that. */
export const PROBE_BYTES = 2 * 1024 * 1024;

/** Headers in which a server says its incarnation, and which host it is on if its memory can be read there. */
export const INCARNATION_KEY = 'lockstep-incarnation';
export const HOST_KEY = 'lockstep-host';

const pullMethod = PeerClient.service['Pull'];
if (pullMethod === undefined) throw new Error('proto/peer.proto has no Pull');

export const PULL_PATH = pullMethod.path;

const { requestSerialize, requestDeserialize } = pullMethod;

export function serializePullRequest(request: PullRequest): Buffer {
  return requestSerialize(pullRequest.encode(request, 'PullRequest'));
}

/** The request in a message, or undefined when it is malformed. */
export function decodePullRequest(message: Buffer): PullRequest | undefined {
  try {
    const request = pullRequest.decode(deserialized(message), 'PullRequest');
    return fitsFrame(request) && isBounded(request) ? request : undefined;
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
}

/** Undefined for what is no protobuf; its decoder throws errors of several kinds. */
function deserialized(message: Buffer): unknown {
  try {
    return requestDeserialize(message);
  } catch {
    return undefined;
  }
}

/** Whether the request's names fit the fields of the frames that would answer it. */
function fitsFrame({ generation, step, nodeLo, nodeLength }: PullRequest): boolean {
  return generation <= 0xffffffff && step <= 0xffffffff && nodeLo <= 0xffff && nodeLength <= 0xffff;
}

function isBounded({ kind, offset, length }: PullRequest): boolean {
  return kind !== 'probe' || offset + length <= PROBE_BYTES;
}
