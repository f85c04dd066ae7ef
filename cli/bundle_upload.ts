/** One attempt to bring an archive of code to a coordinator. */
import { once } from 'node:events';
import { type Client, type ClientWritableStream, Metadata } from '@grpc/grpc-js';
import { WIRE_PIECE_BYTES } from '../shared/bundle/limits.js';
import { bundleReference, type UploadMessage, uploadMessage } from '../shared/wire/bundles.js';
import type { JobSpec } from '../shared/wire/jobs.js';
import { BundlesClient } from '../shared/wire/services.js';

const UPLOAD_MS = 120_000;

export interface Archive {
  readonly sha256: string;
  readonly archive: Buffer;
}

/** Rejects with the error of the call. */
export async function uploadOnce(client: Client, bundle: Archive, spec: JobSpec, signal: AbortSignal): Promise<void> {
  const method = BundlesClient.service['Upload'];
  if (method === undefined) throw new Error('bundles.proto has no method Upload');
  let stream: ClientWritableStream<unknown> | undefined;
  const answered = new Promise<void>((resolve, reject) => {
    stream = client.makeClientStreamRequest<unknown, unknown>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      new Metadata(),
      { deadline: Date.now() + UPLOAD_MS },
      (error, answer) => {
        if (error !== null) reject(error);
        else resolve(void bundleReference.decode(answer, 'BundleReference'));
      },
    );
  });
  const abort = (): void => stream?.cancel();
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  try {
    if (stream !== undefined) await send(stream, bundle, spec, answered);
    await answered;
  } finally {
    signal.removeEventListener('abort', abort);
    // Of no effect on a call that has ended.
    stream?.cancel();
  }
}

async function send(
  stream: ClientWritableStream<unknown>,
  bundle: Archive,
  spec: JobSpec,
  answered: Promise<void>,
): Promise<void> {
  let over = false;
  // A refusal comes before all is sent; nothing is read any more then.
  const ended = answered
    .catch(() => undefined)
    .then(() => {
      over = true;
    });
  stream.on('error', () => undefined);
  for (const message of messagesOf(bundle, spec)) {
    if (over) return;
    if (!stream.write(uploadMessage.encode(message, 'UploadMessage')))
      await Promise.race([once(stream, 'drain'), ended]);
  }
  stream.end();
}

function* messagesOf({ sha256, archive }: Archive, spec: JobSpec): Generator<UploadMessage> {
  yield { kind: 'header', sha256, bytes: archive.length, spec };
  for (let start = 0; start < archive.length; start += WIRE_PIECE_BYTES) {
    yield { kind: 'piece', data: archive.subarray(start, start + WIRE_PIECE_BYTES) };
  }
}
