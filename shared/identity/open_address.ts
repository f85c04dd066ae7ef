/** Without certificates a daemon listens where only its own machine can reach it. */
import { BlockList, isIP } from 'node:net';
import { bareHostOf } from '../address.js';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** Whether host:port can be reached from this machine only. */
export function isLoopback(address: string): boolean {
  const host = bareHostOf(address);
  if (host.toLowerCase() === 'localhost') return true;
  const version = isIP(host);
  return version !== 0 && loopback.check(host, version === 4 ? 'ipv4' : 'ipv6');
}
