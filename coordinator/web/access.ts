/**
 * Which requests are answered. A page of another site must not read or do anything here: not by a name of its own that it has resolved
 * to this address (Host), and not from its own address (Origin).
 */
import type { IncomingHttpHeaders } from 'node:http';
import { isLoopbackHost } from '../../shared/identity/open_address.js';

export interface Access {
  /** Host headers that name this server, for example "127.0.0.1:8080". */
  readonly hosts: ReadonlySet<string>;
  /** Where our own pages come from; empty: `http://` and the host that was asked for. */
  readonly origins: ReadonlySet<string>;
}

/** What the configuration lists; empty where it does not. */
export interface ListedNames {
  readonly hosts: readonly string[];
  readonly origins: readonly string[];
}

/** By which a browser on this machine asks for it. */
const LOOPBACK_NAMES = ['127.0.0.1', 'localhost', '[::1]'];
const ANY_ADDRESS = ['0.0.0.0', '[::]'];
const NOTHING_LISTED: ListedNames = { hosts: [], origins: [] };

/** `configured`: host of the address that it listens on. `name`: of this machine, for a server that listens on all addresses. */
export function accessFor(configured: string, port: number, name: string, listed = NOTHING_LISTED): Access {
  const origins = new Set(listed.origins);
  if (listed.hosts.length > 0) return { hosts: new Set(listed.hosts), origins };
  const host = configured.toLowerCase();
  const names = isLoopbackHost(host)
    ? [...LOOPBACK_NAMES, host]
    : ANY_ADDRESS.includes(host)
      ? [...LOOPBACK_NAMES, name.toLowerCase()]
      : [host];
  const hosts = names.map((one) => `${one}:${port}`);
  // Browsers leave out the port that is usual.
  return { hosts: new Set(port === 80 ? [...hosts, ...names] : hosts), origins };
}

/** Whether only this machine's own users reach it: it listens on loopback, and nothing is to come from elsewhere. */
export function isOnlyLocal(listenHost: string, { hosts, origins }: ListedNames): boolean {
  const isLocal = (name: string): boolean => isLoopbackHost(name.replace(/^https?:\/\//, '').replace(/:\d+$/, ''));
  return isLoopbackHost(listenHost) && [...hosts, ...origins].every(isLocal);
}

/** Why a request is refused; undefined if it is not. */
export function refusalOf(access: Access, headers: IncomingHttpHeaders): string | undefined {
  const host = headers.host?.toLowerCase();
  if (host === undefined || !access.hosts.has(host)) return 'this is not the host that was asked for';
  const { origin } = headers;
  if (origin !== undefined && !isOwn(access, origin, host)) return 'pages of other sites get no answer';
  const site = headers['sec-fetch-site'];
  if (site === 'cross-site' && headers['sec-fetch-mode'] !== 'navigate') return 'pages of other sites get no answer';
  return undefined;
}

/** What changes something, and a WebSocket, which is not held to the same-origin policy, must say where it comes from. */
export function strictRefusalOf(access: Access, headers: IncomingHttpHeaders): string | undefined {
  if (headers.origin === undefined) return 'a request of this kind must say where it comes from (Origin)';
  return refusalOf(access, headers);
}

/** Where the page that was asked of `host` finds its live connection. */
export function liveAddressOf(access: Access, host: string): string {
  return `${isSecure(access, host) ? 'wss' : 'ws'}://${host}`;
}

/** Whether browsers reach `host` over TLS, which ends at a proxy. */
export function isSecure({ origins }: Access, host: string): boolean {
  return origins.has(`https://${host}`);
}

function isOwn({ origins }: Access, origin: string, host: string): boolean {
  const asked = origin.toLowerCase();
  return origins.size === 0 ? asked === `http://${host}` : origins.has(asked);
}
