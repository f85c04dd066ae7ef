/** The bundles service: archives of code come from those who submit jobs, and go to the workers. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { MAX_PACKED_BYTES, WIRE_PIECE_BYTES } from '../../shared/bundle/limits.js';
import { SHA256_HEX } from '../../shared/bundle/reference.js';
import { validateJobSpec } from '../../shared/job_spec.js';
import type { Logger } from '../../shared/logger.js';
import * as wire from '../../shared/wire/bundles.js';
import { WireError } from '../../shared/wire/codec.js';
import { type BundleKeeper, NoRoomForBundle, TooManyBundlesWait } from './bundle_keeper.js';
import { BundleFenced, type BundleStore } from './bundle_store.js';
import { notLeading, type Refusal, Refused, refusal, refused } from './refusal.js';

type Upload = ServerReadableStream<unknown, unknown>;
type Fetch = ServerWritableStream<unknown, unknown>;
type Reply = sendUnaryData<unknown>;
type Header = Extract<wire.UploadMessage, { kind: 'header' }>;

/** Each may hold a whole archive in memory. */
const MAX_UPLOADS = 4;
const MAX_FETCHES = 64;
/** An upload that takes longer is given up, and so is a reader that takes no more. */
const TRANSFER_MS = 120_000;

export interface BundlesServiceOptions {
  readonly keeper: BundleKeeper;
  readonly store: BundleStore;
  readonly leads: () => boolean;
  readonly leader: () => string | undefined;
  readonly log: Logger;
}

export class BundlesService {
  readonly #options: BundlesServiceOptions;
  #uploads = 0;
  #fetches = 0;
  /** The archive that was asked for last: when workers join, all of them ask for the same. */
  #recent: { readonly sha256: string; readonly archive: Promise<Buffer | undefined> } | undefined;

  constructor(options: BundlesServiceOptions) {
    this.#options = options;
  }

  get implementation(): UntypedServiceImplementation {
    return {
      find: (call: ServerUnaryCall<unknown, unknown>, reply: Reply) => {
        this.#find(call.request).then(
          (whole) => reply(null, wire.bundleState.encode({ whole }, 'BundleState')),
          (error) => reply(this.#refusalOf(error), null),
        );
      },
      upload: (call: Upload, reply: Reply) => {
        call.on('error', () => undefined);
        this.#upload(call).then(
          (sha256) => reply(null, wire.bundleReference.encode({ sha256 }, 'BundleReference')),
          (error) => reply(this.#refusalOf(error), null),
        );
      },
      fetch: (call: Fetch) => {
        call.on('error', () => undefined);
        this.#fetch(call).then(
          () => call.end(),
          (error) => call.emit('error', this.#refusalOf(error)),
        );
      },
    };
  }

  async #find(request: unknown): Promise<boolean> {
    const sha256 = digestIn(request);
    this.#mustLead();
    return this.#options.keeper.reserve(sha256);
  }

  async #upload(call: Upload): Promise<string> {
    this.#mustLead();
    if (this.#uploads >= MAX_UPLOADS)
      throw refused(status.ABORTED, `${MAX_UPLOADS} archives are being uploaded already`);
    this.#uploads += 1;
    const overdue = setTimeout(() => call.destroy(new Error('the upload took too long')), TRANSFER_MS);
    try {
      const { sha256, archive } = await received(call);
      this.#mustLead();
      await this.#options.keeper.keep(sha256, archive);
      return sha256;
    } finally {
      clearTimeout(overdue);
      this.#uploads -= 1;
    }
  }

  async #fetch(call: Fetch): Promise<void> {
    const sha256 = digestIn(call.request);
    if (this.#fetches >= MAX_FETCHES)
      throw refused(status.ABORTED, `${MAX_FETCHES} archives are being fetched already`);
    this.#fetches += 1;
    const given = AbortSignal.timeout(TRANSFER_MS);
    const gone = new AbortController();
    call.once('cancelled', () => gone.abort());
    try {
      const archive = await this.#archive(sha256);
      if (archive === undefined) throw refused(status.NOT_FOUND, `the archive of code ${sha256} is not there`);
      const signal = AbortSignal.any([given, gone.signal]);
      for (let start = 0; start < archive.length; start += WIRE_PIECE_BYTES) {
        signal.throwIfAborted();
        const data = archive.subarray(start, start + WIRE_PIECE_BYTES);
        if (!call.write(wire.bundlePiece.encode({ data }, 'BundlePiece'))) await once(call, 'drain', { signal });
      }
    } finally {
      this.#fetches -= 1;
    }
  }

  #archive(sha256: string): Promise<Buffer | undefined> {
    if (this.#recent?.sha256 === sha256) return this.#recent.archive;
    const archive = this.#options.store.read(sha256);
    const recent = { sha256, archive };
    this.#recent = recent;
    const forget = (): void => {
      if (this.#recent === recent) this.#recent = undefined;
    };
    archive.then((found) => found ?? forget(), forget);
    return archive;
  }

  #mustLead(): void {
    if (!this.#options.leads()) throw new Refused(notLeading(this.#options.leader()));
  }

  #refusalOf(error: unknown): Refusal {
    if (error instanceof Refused) return error.refusal;
    if (error instanceof WireError) return refusal(status.INVALID_ARGUMENT, error.message);
    if (error instanceof BundleFenced) return notLeading(this.#options.leader());
    if (error instanceof NoRoomForBundle) return refusal(status.RESOURCE_EXHAUSTED, error.message);
    const reason = error instanceof Error ? error.message : String(error);
    if (!(error instanceof TooManyBundlesWait)) this.#options.log.warn('an archive was not passed on', { reason });
    return refusal(status.ABORTED, reason);
  }
}

function digestIn(request: unknown): string {
  const { sha256 } = wire.bundleReference.decode(request, 'BundleReference');
  if (!SHA256_HEX.test(sha256)) throw refused(status.INVALID_ARGUMENT, 'sha256: must be 64 hexadecimal digits');
  return sha256;
}

/** The whole archive, verified. */
async function received(call: Upload): Promise<{ readonly sha256: string; readonly archive: Buffer }> {
  let header: Header | undefined;
  const pieces: Uint8Array[] = [];
  // Piece by piece, so that a long archive does not hold up the main loop.
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const one of call) {
    const message = wire.uploadMessage.decode(one, 'UploadMessage');
    if (message.kind === 'header') {
      if (header !== undefined) throw refused(status.INVALID_ARGUMENT, 'an upload has one header');
      header = checkedHeader(message);
      continue;
    }
    if (header === undefined) throw refused(status.INVALID_ARGUMENT, 'an upload begins with its header');
    bytes += message.data.length;
    if (bytes > header.bytes) throw refused(status.INVALID_ARGUMENT, 'the archive is longer than its header says');
    pieces.push(message.data);
    hash.update(message.data);
  }
  if (header === undefined) throw refused(status.INVALID_ARGUMENT, 'an upload begins with its header');
  if (bytes < header.bytes) throw refused(status.ABORTED, 'the archive did not arrive whole');
  if (hash.digest('hex') !== header.sha256)
    throw refused(status.ABORTED, 'the archive has another sha256 than was sent');
  return { sha256: header.sha256, archive: Buffer.concat(pieces) };
}

function checkedHeader(header: Header): Header {
  if (!SHA256_HEX.test(header.sha256)) throw refused(status.INVALID_ARGUMENT, 'sha256: must be 64 hexadecimal digits');
  if (header.bytes > MAX_PACKED_BYTES) {
    throw refused(status.INVALID_ARGUMENT, `the code has more than ${MAX_PACKED_BYTES / 1024 / 1024} MiB when packed`);
  }
  const problem = validateJobSpec(header.spec);
  if (problem !== undefined) throw refused(status.INVALID_ARGUMENT, `${problem.field}: ${problem.problem}`);
  return header;
}
