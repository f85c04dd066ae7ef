/**
 * An S3-compatible store (s3rver) behind a proxy that can lose, refuse, delay and spoil what passes, and that does what s3rver does not:
 * check signatures, and refuse conditional writes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import type { S3Options } from '../../../shared/checkpoint/s3_options.js';
import { signatureProblem } from './signature.js';

export interface StoreRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** Counts from 0 since the last `faultWith`. */
  readonly index: number;
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export type Fault =
  | { readonly kind: 'pass' }
  /** The connection breaks before the request is carried out. */
  | { readonly kind: 'refuse' }
  /** The connection breaks after it was carried out. */
  | { readonly kind: 'lose_answer' }
  | { readonly kind: 'hang' }
  | { readonly kind: 'answer'; readonly answer: Partial<Answer> & { readonly status: number } }
  | { readonly kind: 'spoil_request' | 'spoil_answer'; readonly spoil: (body: Buffer) => Buffer };

const SECRET = 'a+secret/key';
const PASS: Fault = { kind: 'pass' };

export class FaultyStore {
  readonly requests: string[] = [];
  /** By path. */
  readonly #etags = new Map<string, string>();
  #fault: (request: StoreRequest) => Fault = () => PASS;
  #count = 0;

  private constructor(
    private readonly store: S3rver,
    private readonly storePort: number,
    private readonly folder: string,
    private readonly server: Server,
    readonly port: number,
  ) {
    server.on('request', (incoming, response) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const { method = '', url = '', headers } = incoming;
        void this.#handle({ method, url, headers, body: Buffer.concat(chunks), index: this.#count++ }, response);
      });
    });
  }

  static async start(): Promise<FaultyStore> {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-s3-'));
    const options = { port: 0, address: '127.0.0.1', silent: true, directory: folder };
    const store = new S3rver({ ...options, configureBuckets: [{ name: 'bucket' }] });
    const { port } = await store.run();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new FaultyStore(store, port, folder, server, portOf(server.address()));
  }

  options(more: Partial<S3Options> = {}): S3Options {
    const endpoint = `http://127.0.0.1:${this.port}`;
    return { endpoint, region: 'us-east-1', accessKeyId: 'S3RVER', secretAccessKey: SECRET, ...more };
  }

  /** From now on; without a function everything passes. */
  faultWith(fault: (request: StoreRequest) => Fault = () => PASS): void {
    this.#fault = fault;
    this.#count = 0;
    this.requests.length = 0;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
    await this.store.close();
    rmSync(this.folder, { recursive: true });
  }

  async #handle(request: StoreRequest, response: ServerResponse): Promise<void> {
    this.requests.push(`${request.method} ${request.url}`);
    const fault = this.#fault(request);
    if (fault.kind === 'hang') return;
    if (fault.kind === 'refuse') return void response.destroy();
    if (fault.kind === 'answer') return send(response, { headers: {}, body: Buffer.alloc(0), ...fault.answer });
    const problem = signatureProblem(request, SECRET);
    if (problem !== undefined) return send(response, errorAnswer(403, problem));
    const body = fault.kind === 'spoil_request' ? fault.spoil(request.body) : request.body;
    const answer = this.#conditionFailed(request) ?? (await this.#forward({ ...request, body }));
    if (fault.kind === 'lose_answer') return void response.destroy();
    send(response, fault.kind === 'spoil_answer' ? { ...answer, body: fault.spoil(answer.body) } : answer);
  }

  #conditionFailed({ method, url, headers }: StoreRequest): Answer | undefined {
    if (method !== 'PUT') return undefined;
    const etag = this.#etags.get(url);
    const wanted = headers['if-match'];
    const fails = (headers['if-none-match'] === '*' && etag !== undefined) || (wanted !== undefined && wanted !== etag);
    return fails ? errorAnswer(412, 'PreconditionFailed') : undefined;
  }

  #forward({ method, url, headers, body }: StoreRequest): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = method === 'PUT' || method === 'POST' ? { 'content-length': String(body.length) } : {};
      const { 'transfer-encoding': _, 'content-length': __, ...rest } = headers;
      const outgoing = httpRequest(
        { host: '127.0.0.1', port: this.storePort, method, path: url, headers: { ...rest, ...length } },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
          incoming.on('end', () => {
            const answer = {
              status: incoming.statusCode ?? 500,
              headers: plain(incoming.headers),
              body: Buffer.concat(chunks),
            };
            this.#remember(method, url, answer);
            resolve(answer);
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  #remember(method: string, url: string, { status, headers }: Answer): void {
    if (status >= 300) return;
    if (method === 'PUT' && headers['etag'] !== undefined) this.#etags.set(url, headers['etag']);
    if (method === 'DELETE') this.#etags.delete(url);
  }
}

function errorAnswer(status: number, code: string): Answer {
  return { status, headers: {}, body: Buffer.from(`<Error><Code>${code}</Code></Error>`) };
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  const { 'content-length': length, ...rest } = headers;
  // The answer to HEAD has the length of a body that it does not have.
  const bytes = body.length > 0 ? String(body.length) : (length ?? '0');
  response.writeHead(status, { ...rest, 'content-length': bytes });
  response.end(body);
}

function plain(headers: IncomingHttpHeaders): Record<string, string> {
  const kept = Object.entries(headers).filter(([name]) => name !== 'transfer-encoding' && name !== 'connection');
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]));
}

function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}
