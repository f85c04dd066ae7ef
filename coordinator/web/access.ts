/**
 * Which requests are answered. A page of another site must not read or do anything here: not by a name of its own that it has resolved
 * to this address (Host), and not from its own address (Origin).
 */
import type { IncomingHttpHeaders } from 'node:http';

export interface Access {
  /** Host headers that name this server, for example "127.0.0.1:8080". */
  readonly hosts: ReadonlySet<string>;
}

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];
const ANY_ADDRESS = ['0.0.0.0', '[::]'];

/** `configured`: host of the address that it listens on. `name`: of this machine, for a server that listens on all addresses. */
export function accessFor(configured: string, port: number, name: string): Access {
  const host = configured.toLowerCase();
  const names = LOOPBACK.includes(host)
    ? LOOPBACK
    : ANY_ADDRESS.includes(host)
      ? [...LOOPBACK, name.toLowerCase()]
      : [host];
  const hosts = names.map((one) => `${one}:${port}`);
  // Browsers leave out the port that is usual.
  return { hosts: new Set(port === 80 ? [...hosts, ...names] : hosts) };
}

/** Why a request is refused; undefined if it is not. */
export function refusalOf(access: Access, headers: IncomingHttpHeaders): string | undefined {
  const host = headers.host?.toLowerCase();
  if (host === undefined || !access.hosts.has(host)) return 'this is not the host that was asked for';
  const { origin } = headers;
  if (origin !== undefined && !isOwn(origin, host)) return 'pages of other sites get no answer';
  const site = headers['sec-fetch-site'];
  if (site === 'cross-site' && headers['sec-fetch-mode'] !== 'navigate') return 'pages of other sites get no answer';
  return undefined;
}

/** A WebSocket is not held to the same-origin policy, so it must say where it comes from. */
export function upgradeRefusalOf(access: Access, headers: IncomingHttpHeaders): string | undefined {
  if (headers.origin === undefined) return 'a connection must say where it comes from (Origin)';
  return refusalOf(access, headers);
}

function isOwn(origin: string, host: string): boolean {
  return origin.toLowerCase() === `http://${host}`;
}
