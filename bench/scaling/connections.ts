/** TCP connections of this machine, from /proc. */
import { readFileSync } from 'node:fs';

const ESTABLISHED = '01';

/** How many connections lead to one of these ports of the loopback address. */
export function connectionsTo(ports: ReadonlySet<number>): number {
  const lines = readFileSync('/proc/self/net/tcp', 'utf8').trim().split('\n').slice(1);
  return lines.filter((line) => {
    const [, , remote, state] = line.trim().split(/\s+/);
    return state === ESTABLISHED && ports.has(Number.parseInt(remote?.split(':')[1] ?? '', 16));
  }).length;
}
