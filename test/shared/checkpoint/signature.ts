/**
 * Checks a request's signature as S3 does; s3rver does not. Written from Amazon's description of Signature Version 4
 * (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html), not from the client's code.
 */
import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

export interface SignedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** The error code that S3 answers; undefined when all is right. */
export function signatureProblem(request: SignedRequest, secret: string): string | undefined {
  const digest = String(request.headers['x-amz-content-sha256']);
  if (digest !== sha256(request.body)) return 'XAmzContentSHA256Mismatch';
  const match = /^AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
    String(request.headers.authorization),
  );
  const [, credential = '', signedHeaders = '', signature = ''] = match ?? [];
  const [, date = '', region = '', service = '', end = ''] = credential.split('/');
  const key = [date, region, service, end].reduce<string | Buffer>(hmac, `AWS4${secret}`);
  const canonical = sha256(Buffer.from(canonicalRequest(request, signedHeaders.split(';'), digest)));
  const scope = [date, region, service, end].join('/');
  const text = ['AWS4-HMAC-SHA256', String(request.headers['x-amz-date']), scope, canonical].join('\n');
  return hmac(key, text).toString('hex') === signature ? undefined : 'SignatureDoesNotMatch';
}

function canonicalRequest({ method, url, headers }: SignedRequest, signed: readonly string[], digest: string): string {
  const [path = '', query = ''] = url.split('?');
  const parameters = query
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => pair.split('=').map(decodeURIComponent))
    .map(([name = '', value = '']) => `${encoded(name)}=${encoded(value)}`)
    .sort();
  const lines = signed.map((name) => `${name}:${String(headers[name]).trim()}\n`);
  const segments = path.split('/').map((segment) => encoded(decodeURIComponent(segment)));
  return [method, segments.join('/'), parameters.join('&'), lines.join(''), signed.join(';'), digest].join('\n');
}

function encoded(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
