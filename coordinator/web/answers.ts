/** How HTTP requests are answered: nothing that is sent may be read, framed or run by a page of another site. */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { NotLetIn } from './visitors.js';

const PLAIN = 'text/plain; charset=utf-8';

/** `live`: where the page finds its live connection; some browsers do not count a WebSocket as 'self'. */
export function send(response: ServerResponse, status: number, type: string, body: Buffer, live = ''): void {
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': body.length,
    'Cache-Control': 'no-cache',
    'Content-Security-Policy':
      `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; ${`connect-src 'self' ${live}`.trim()}; ` +
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

export function sendText(response: ServerResponse, status: number, body: string): void {
  send(response, status, PLAIN, Buffer.from(`${body}\n`));
}

export function sendJson(response: ServerResponse, value: object): void {
  send(response, 200, 'application/json', Buffer.from(JSON.stringify(value)));
}

export function sendRefusal(response: ServerResponse, { status, reason, waitSeconds }: NotLetIn): void {
  if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
  if (waitSeconds !== undefined) response.setHeader('Retry-After', waitSeconds);
  sendText(response, status, reason);
}

const STATUS_LINES = {
  401: '401 Unauthorized',
  403: '403 Forbidden',
  404: '404 Not Found',
  429: '429 Too Many Requests',
  503: '503 Service Unavailable',
} as const;

export function refuseUpgrade(socket: Duplex, status: keyof typeof STATUS_LINES): void {
  // Whoever is refused does not have to end the connection.
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${STATUS_LINES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
