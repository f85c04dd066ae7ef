/** What a browser sends to the dashboard: requests, and frames of a WebSocket. */
import fc from 'fast-check';
import { anyBytes, nearly } from './mutations.js';

const OPCODES = [0, 1, 2, 3, 8, 9, 10, 15];
const MOST_FRAMES = 30;

function requestText(host: string): fc.Arbitrary<Buffer> {
  const method = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'OPTIONS', 'CONNECT', 'TRACE', 'PRI', '');
  const path = fc.constantFrom(
    '/',
    '/metrics',
    '/token',
    '/who',
    '/login',
    '/logout',
    '/live',
    '/readyz',
    '/../package.json',
    '/%00',
    `/${'x'.repeat(9_000)}`,
    '*',
    'http://evil.example/',
  );
  const header = fc.constantFrom(
    `Origin: http://${host}`,
    'Origin: http://evil.example',
    'Host: evil.example',
    'Authorization: Bearer x',
    `Authorization: Bearer ${'x'.repeat(10_000)}`,
    'Cookie: lockstep_1=a.9999999999.b',
    'Content-Length: 5',
    'Content-Length: 99999999999999999999',
    'Content-Length: -1',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
    'Expect: 100-continue',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'X-Forwarded-User: admin',
    'If-None-Match: *',
    'Range: bytes=0-',
    ' folded: x',
    'no colon',
  );
  const body = fc.constantFrom('', 'x', '5\r\nhello\r\n0\r\n\r\n', 'ffffffffffffffff\r\n', 'token');
  return fc.tuple(method, path, fc.array(header, { maxLength: 6 }), body).map(([verb, where, headers, text]) => {
    const lines = [`${verb} ${where} HTTP/1.1`, `Host: ${host}`, ...headers, '', text];
    return Buffer.from(lines.join('\r\n'));
  });
}

/** One frame, masked as a client's must be, or not. */
function frame(payloads: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const opcode = fc.constantFrom(...OPCODES);
  return fc.tuple(opcode, fc.boolean(), fc.boolean(), payloads).map(([code, final, masked, payload]) => {
    const head = Buffer.from([
      (final ? 0x80 : 0) | code,
      (masked ? 0x80 : 0) | 126,
      payload.length >> 8,
      payload.length,
    ]);
    // A mask of zeros leaves the payload as it is.
    return Buffer.concat([head, masked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
  });
}

function viewerText(job: string): fc.Arbitrary<Buffer> {
  const known = fc.constantFrom(job, '', '__proto__', 'x'.repeat(200));
  const watch = fc.record({
    kind: fc.constant('watch'),
    job: fc.oneof(known, fc.constant(null)),
    resume: fc.oneof(
      fc.constant(null),
      fc.record({
        epoch: fc.string(),
        cluster: fc.oneof(fc.nat(), fc.double()),
        job: fc.constantFrom(null, -1, 2 ** 53),
      }),
    ),
  });
  const cancel = fc.record({
    kind: fc.constant('cancel'),
    request: fc.oneof(fc.nat(), fc.string()),
    // Without a token of our own page it is refused, whatever it names.
    job: known,
    checkpoint: fc.boolean(),
    token: fc.string(),
  });
  const service = fc.record({
    kind: fc.constantFrom('cordon', 'uncordon', 'drain'),
    request: fc.oneof(fc.nat(), fc.string()),
    worker: fc.oneof(fc.constantFrom('w1', '', '__proto__'), fc.string()),
    reason: fc.string(),
    token: fc.string(),
  });
  return fc
    .oneof(
      watch,
      cancel,
      service,
      fc.json().map((text) => JSON.parse(text)),
    )
    .map((one) => Buffer.from(JSON.stringify(one)));
}

export function pageRequests(host: string): fc.Arbitrary<Buffer> {
  return nearly(requestText(host));
}

/** A connection that has become a WebSocket, and what then comes. */
export function liveFrames(host: string, job: string): fc.Arbitrary<Buffer> {
  const upgrade = Buffer.from(
    [
      'GET /live HTTP/1.1',
      `Host: ${host}`,
      `Origin: http://${host}`,
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==',
      '',
      '',
    ].join('\r\n'),
  );
  const frames = fc.array(frame(fc.oneof(viewerText(job), nearly(viewerText(job)), anyBytes)), {
    maxLength: MOST_FRAMES,
  });
  return frames.chain((all) => nearly(fc.constant(Buffer.concat(all))).map((bytes) => Buffer.concat([upgrade, bytes])));
}
