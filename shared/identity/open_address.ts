/** Without certificates a daemon listens where only its own machine can reach it. */
import { BlockList, isIP } from 'node:net';
import { hostOf } from '../address.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether host:port can be reached from this machine only. */
export function isLoopback(address: string): boolean {
  return isLoopbackHost(hostOf(address));
}

/** The same of a host, with or without the brackets of an IPv6 address. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (bare === 'localhost') return true;
  const version = isIP(bare);
  // An IPv4 address that is written as IPv6, ::ffff:127.0.0.1, is found in the IPv4 subnet.
  return version !== 0 && loopback.check(bare, version === 4 ? 'ipv4' : 'ipv6');
}
