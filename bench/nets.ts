/** The networks that benchmarks run on: this machine's own, and network namespaces joined by a bridge, whose links have a rate. */
import { spawnSync } from 'node:child_process';
import { type Host, Network } from '../test/faults/network.js';
import { UsageError } from './clean_up.js';

export const NETS = ['samehost', 'loopback', 'netns', '10gbit', '1gbit', '100mbit'] as const;
export type Net = (typeof NETS)[number];

/** Where one process of a benchmark runs. */
export interface Place {
  /** IPv4 address by which the others reach it. */
  readonly address: string;
  /** Network device that has the address. */
  readonly device: string;
  /** Put before its command. */
  readonly prefix: readonly string[];
}

export const HERE: Place = { address: '127.0.0.1', device: 'lo', prefix: [] };

/** Of each link, in each direction; undefined where nothing limits it. */
export function megabitsOf(net: Net): number | undefined {
  switch (net) {
    case 'samehost':
    case 'loopback':
    case 'netns':
      return undefined;
    case '10gbit':
      return 10_000;
    case '1gbit':
      return 1000;
    case '100mbit':
      return 100;
  }
}

/** Whether each process is a host of its own. */
export function hasNamespaces(net: Net): boolean {
  return net !== 'samehost' && net !== 'loopback';
}

/** Throws a UsageError in one line when this process cannot make the networks. */
export function checkCanMake(nets: readonly Net[]): void {
  const needy = nets.filter(hasNamespaces);
  if (needy.length === 0) return;
  const missing = ['ip', 'tc'].find((tool) => spawnSync(tool, ['-V'], { stdio: 'ignore' }).error !== undefined);
  const problem =
    process.getuid?.() !== 0 ? 'root' : missing === undefined ? undefined : `${missing} (apt-get install iproute2)`;
  if (problem !== undefined) {
    throw new UsageError(`--nets ${needy.join(',')}: network namespaces need ${problem}; --nets loopback does not`);
  }
}

/** Gives the links of the hosts the rate of the net. */
export function shapeLinks(network: Network, names: readonly string[], net: Net): void {
  const megabits = megabitsOf(net);
  if (megabits !== undefined) for (const name of names) network.shape(name, megabits);
}

export function placeOf({ address, namespace }: Host): Place {
  // ip becomes the command and keeps its pid.
  return { address, device: 'eth0', prefix: ['ip', 'netns', 'exec', namespace] };
}

export interface OpenNet {
  readonly places: readonly Place[];
  close(): void;
}

/** A net with so many places. */
export function openNet(net: Net, count: number): OpenNet {
  if (!hasNamespaces(net)) return { places: Array.from({ length: count }, () => HERE), close: () => undefined };
  const network = new Network();
  try {
    const names = Array.from({ length: count }, (_, rank) => `r${rank}`);
    const places = names.map((name) => placeOf(network.addHost(name)));
    shapeLinks(network, names, net);
    return { places, close: () => network.close() };
  } catch (error) {
    network.close();
    throw error;
  }
}
