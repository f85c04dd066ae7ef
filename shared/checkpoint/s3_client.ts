/** Requests to an S3-compatible store: signed, with a deadline each, repeated a bounded number of times. */
import { createHash } from 'node:crypto';
import { AwsV4Signer } from 'aws4fetch';
import { BackOff } from '../etcd/back_off.js';
import { StorageFailure } from './errors.js';
import type { S3Options } from './s3_options.js';
import { textOf } from './s3_xml.js';

const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_ATTEMPTS = 5;
const CLEANING_UP_TIMEOUT_MS = 10_000;
const BACK_OFF = { firstMs: 200, maxMs: 5000 };
/** Of an answer that is not a file: a list of 1,000 keys has some 300 KiB. */
const MAX_ANSWER_BYTES = 8 * 2 ** 20;
const EMPTY = Buffer.alloc(0);

export interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** Empty for requests about the bucket. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer<ArrayBuffer>;
  /** Statuses besides 200 to 299 that are answers, not failures. */
  readonly accept?: readonly number[];
  /** How long the answer may be. */
  readonly maxBytes?: number;
}

export interface S3Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
}

/** The request was refused, and would be again. */
class Refused extends StorageFailure {}

export class S3Client {
  /** Keys derived from the secret, which are good for a day. */
  readonly #derivedKeys = new Map<string, ArrayBuffer>();
  /** The store's clock less ours: it refuses requests that are a quarter of an hour off. */
  #clockSkewMs = 0;

  constructor(
    private readonly options: S3Options,
    private readonly bucket: string,
    /** Ends whatever is under way, and everything that follows. */
    private readonly signal?: AbortSignal | undefined,
  ) {}

  /** For removing what is not wanted any more: also after the signal, but without insisting. */
  forCleaningUp(): S3Client {
    const requestTimeoutMs = Math.min(CLEANING_UP_TIMEOUT_MS, this.options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS);
    return new S3Client({ ...this.options, requestTimeoutMs, attempts: 1 }, this.bucket);
  }

  urlOf(key: string): string {
    return `s3://${this.bucket}/${key}`;
  }

  /** Rejects with StorageFailure when the store refuses, or does not answer in all attempts. */
  async request(request: S3Request): Promise<S3Answer> {
    const signal = this.signal ?? new AbortController().signal;
    const backOff = new BackOff(BACK_OFF);
    const attempts = this.options.attempts ?? DEFAULT_ATTEMPTS;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      try {
        return await this.#attempt(request, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof Refused) throw error;
        if (attempt >= attempts) throw this.#failure(request, `${reasonOf(error)} (${attempts} attempts)`, error);
      }
      await backOff.wait(signal);
    }
  }

  async #attempt(request: S3Request, signal: AbortSignal): Promise<S3Answer> {
    const { method, body, accept = [], maxBytes = MAX_ANSWER_BYTES } = request;
    const { url, headers } = await this.#signed(request);
    const timeout = AbortSignal.timeout(this.options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS);
    const response = await fetch(url, {
      method,
      headers,
      body: body ?? null,
      redirect: 'manual',
      signal: AbortSignal.any([timeout, signal]),
    });
    const answer = { status: response.status, headers: response.headers, body: await limitedBody(response, maxBytes) };
    // Some requests fail after their status was sent.
    const failed = method === 'POST' && answer.body.includes('<Error>');
    if ((response.ok && !failed) || accept.includes(answer.status)) return answer;
    throw this.#refusal(request, answer);
  }

  async #signed({
    method,
    key,
    query = {},
    headers = {},
    body = EMPTY,
  }: S3Request): Promise<{ url: URL; headers: Headers }> {
    const { endpoint, region, accessKeyId, secretAccessKey, sessionToken } = this.options;
    const url = new URL(`${endpoint.replace(/\/+$/, '')}/${this.bucket}${key === '' ? '' : `/${key}`}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const digest = createHash('sha256').update(body).digest('hex');
    const signer = new AwsV4Signer({
      method,
      url: url.toString(),
      headers: { ...headers, 'x-amz-content-sha256': digest },
      service: 's3',
      region,
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
      cache: this.#derivedKeys,
      datetime: new Date(Date.now() + this.#clockSkewMs).toISOString().replace(/[:-]|\.\d{3}/g, ''),
    });
    return signer.sign();
  }

  /** A Refused, or an error after which the request is made again. */
  #refusal(request: S3Request, answer: S3Answer): Error {
    const xml = answer.body.toString('utf8');
    const code = textOf(xml, 'Code');
    const said = [String(answer.status), code, textOf(xml, 'Message')].filter((part) => part !== '').join(' ');
    if (code === 'RequestTimeTooSkewed' || code === 'RequestTimeTooSkew') {
      this.#clockSkewMs = Date.parse(answer.headers.get('date') ?? '') - Date.now() || 0;
      return new Error(said);
    }
    const isPassing =
      answer.status >= 500 || answer.status === 429 || answer.status === 408 || code === 'RequestTimeout';
    if (isPassing && answer.status !== 501) return new Error(said);
    return new Refused(this.#failure(request, `${said}${adviceFor(answer.status)}`).message);
  }

  #failure({ method, key }: S3Request, problem: string, cause?: unknown): StorageFailure {
    return new StorageFailure(`cannot ${method} ${this.urlOf(key)} at ${this.options.endpoint}: ${problem}`, cause);
  }
}

function adviceFor(status: number): string {
  if (status === 401 || status === 403) return '; check the access key, its secret and what it may do';
  if (status === 404) return '; check the name of the bucket';
  if (status >= 300 && status < 400) return '; check the region and the endpoint';
  return '';
}

async function limitedBody(response: Response, maxBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`an answer of more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

/** undici says "fetch failed" and hides why. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return 'no answer in time';
  return error.cause instanceof Error ? error.cause.message || error.message : error.message;
}
