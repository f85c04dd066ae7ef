/**
 * Who asks, and as what: by a token (Authorization: Bearer), by the cookie that a token was exchanged for, or by the word of a proxy that
 * has let somebody in. Where neither tokens nor a proxy are configured everybody looks, and may do anything if only this machine's own users reach it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { HOLDER, type TokenHolder } from '../../shared/bearer_token.js';
import { roleOf, type UserRole } from '../../shared/role.js';
import type { ProxyConfig } from './dashboard_config.js';
import { FailedLogins } from './failed_logins.js';
import { SESSION_SECONDS, Sessions } from './sessions.js';
import type { TokensFile } from './tokens_file.js';
import { TrustedProxies } from './trusted_proxies.js';

export interface Visitor {
  /** Empty where nobody needs a name. */
  readonly name: string;
  readonly role: UserRole;
  /** By the cookie, which can be given back. */
  readonly loggedIn: boolean;
  /** False once the token was taken out of the file, or the time is over. */
  readonly isLetIn: () => boolean;
}

export interface NotLetIn {
  readonly status: 401 | 403 | 429;
  readonly reason: string;
  /** For 429: seconds to wait. */
  readonly waitSeconds?: number;
}

export type Admission = { readonly visitor: Visitor } | { readonly refusal: NotLetIn };

/** What is known of a request. */
export interface Asking {
  readonly headers: IncomingHttpHeaders;
  /** Of the other end of the connection. */
  readonly address: string;
  /** Address of whoever asks: that, or behind a trusted proxy the one that it names. */
  readonly client: string;
}

export interface VisitorsOptions {
  readonly tokens: TokensFile | undefined;
  readonly proxy: ProxyConfig | undefined;
  /** Only this machine's own users reach the dashboard. */
  readonly onlyLocal: boolean;
  /** Cookies know no ports: each dashboard of a machine has one of its own. */
  readonly port: number;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
}

const BEARER = /^Bearer ([\x21-\x7e]+)$/i;

export class Visitors {
  readonly #options: VisitorsOptions;
  readonly #sessions = new Sessions();
  readonly #failed = new FailedLogins();
  readonly #proxies: TrustedProxies;
  readonly #cookie: string;

  constructor(options: VisitorsOptions) {
    this.#options = options;
    this.#cookie = `lockstep_${options.port}`;
    this.#proxies = new TrustedProxies(options.proxy?.from ?? []);
  }

  /** A token can be given at the page. */
  get takesTokens(): boolean {
    return this.#options.tokens !== undefined;
  }

  askingOf(headers: IncomingHttpHeaders, address: string): Asking {
    return { headers, address, client: this.#proxies.clientOf(address, headers) };
  }

  of(asking: Asking): Admission {
    // First, because what such a proxy passes on as Authorization is its own.
    const named = this.#byProxy(asking);
    if (named !== undefined) return named;
    const { authorization } = asking.headers;
    if (authorization !== undefined && this.takesTokens) return this.#byBearer(authorization, asking.client);
    const holder = this.#sessionHolder(asking.headers);
    return holder === undefined ? this.#unnamed() : { visitor: this.#visitorOf(holder, asking.headers) };
  }

  /** The token's holder, or why it is not taken. */
  logIn(token: string, client: string): { readonly holder: TokenHolder } | { readonly refusal: NotLetIn } {
    const nowMs = this.#options.nowMs();
    const waitSeconds = this.#failed.waitSeconds(client, nowMs);
    if (waitSeconds > 0)
      return { refusal: { status: 429, reason: 'too many wrong tokens; try again later', waitSeconds } };
    const holder = this.#options.tokens?.holderOf(token);
    if (holder !== undefined) return { holder };
    this.#failed.failed(client, nowMs);
    return { refusal: { status: 401, reason: 'this token is not known' } };
  }

  /** The Set-Cookie header after a login; without a holder it takes the cookie back. */
  cookieFor(holder: TokenHolder | undefined, secure: boolean): string {
    const value = holder === undefined ? '' : this.#sessions.issue(holder.sha256, this.#options.wallMs());
    const seconds = holder === undefined ? 0 : SESSION_SECONDS;
    const attributes = `Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure ? '; Secure' : ''}`;
    return `${this.#cookie}=${value}; ${attributes}`;
  }

  #byBearer(authorization: string, client: string): Admission {
    const token = BEARER.exec(authorization)?.[1] ?? '';
    const outcome = this.logIn(token, client);
    if ('refusal' in outcome) return outcome;
    const { name, role, sha256 } = outcome.holder;
    return { visitor: { name, role, loggedIn: false, isLetIn: () => this.#still(sha256)?.role === role } };
  }

  #sessionHolder(headers: IncomingHttpHeaders): TokenHolder | undefined {
    const cookie = cookieIn(headers.cookie ?? '', this.#cookie);
    const sha256 = cookie === undefined ? undefined : this.#sessions.tokenOf(cookie, this.#options.wallMs());
    return sha256 === undefined ? undefined : this.#still(sha256);
  }

  #still(sha256: string): TokenHolder | undefined {
    return this.#options.tokens?.holderOfSha256(sha256);
  }

  #visitorOf({ name, role }: TokenHolder, headers: IncomingHttpHeaders): Visitor {
    return { name, role, loggedIn: true, isLetIn: () => this.#sessionHolder(headers)?.role === role };
  }

  #byProxy({ headers, address }: Asking): Admission | undefined {
    const { proxy } = this.#options;
    if (proxy?.header === undefined || !this.#proxies.has(address)) return undefined;
    const name = headers[proxy.header];
    if (name === undefined) return undefined;
    if (typeof name !== 'string' || !HOLDER.test(name)) {
      return { refusal: { status: 403, reason: `${proxy.header}: this is no name` } };
    }
    const role = roleOf(String(headers[proxy.roleHeader ?? ''] ?? '')) ?? 'viewer';
    return { visitor: { name, role, loggedIn: false, isLetIn: () => true } };
  }

  #unnamed(): Admission {
    const { tokens, proxy, onlyLocal } = this.#options;
    if (tokens !== undefined) return { refusal: { status: 401, reason: 'a token is needed' } };
    if (proxy?.header !== undefined) return { refusal: { status: 401, reason: 'the proxy in front has named nobody' } };
    return { visitor: { name: '', role: onlyLocal ? 'admin' : 'viewer', loggedIn: false, isLetIn: () => true } };
  }
}

function cookieIn(header: string, name: string): string | undefined {
  const pair = header.split(';').find((one) => one.trim().startsWith(`${name}=`));
  return pair?.trim().slice(name.length + 1);
}
