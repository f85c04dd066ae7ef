/** Whose request it is, where proxies stand in front: what they say of it is believed if it is they who say it. */
import type { IncomingHttpHeaders } from 'node:http';
import { BlockList, isIP } from 'node:net';
import { networkOf } from './dashboard_config.js';

export class TrustedProxies {
  readonly #networks = new BlockList();

  /** Addresses, and networks such as 10.0.0.0/8. */
  constructor(from: readonly string[]) {
    for (const network of from) {
      const { address, bits, family } = networkOf(network);
      this.#networks.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4');
    }
  }

  has(address: string): boolean {
    return isIP(address) !== 0 && this.#networks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  }

  /**
   * Each proxy adds at the end of X-Forwarded-For whom it was asked by. So it is read from there for as long as those who say it are trusted; what a
   * client has put before that is nothing. `address` is that of the other end of the connection.
   */
  clientOf(address: string, headers: IncomingHttpHeaders): string {
    const said = String(headers['x-forwarded-for'] ?? '').split(',');
    let client = address;
    while (this.has(client)) {
      const next = plainAddress(said.pop() ?? '');
      if (isIP(next) === 0) break;
      client = next;
    }
    return client;
  }
}

/** Without the port that some proxies add, and IPv4 as such where a server on [::] sees it as IPv6. */
export function plainAddress(text: string): string {
  const bare = /^\[(.*)\](:\d+)?$/.exec(text.trim())?.[1] ?? text.trim().replace(/^([\d.]+):\d+$/, '$1');
  return bare.replace(/^::ffff:(?=\d+\.)/i, '');
}
