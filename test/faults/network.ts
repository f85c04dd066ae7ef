/**
 * A network of hosts on this machine: each a network namespace with one link to a bridge. Its links can be taken down and routes
 * between hosts removed, without a FIN or a reset reaching anybody. Needs root.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { repository } from './repository.js';

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

export interface Host {
  readonly name: string;
  readonly address: string;
  readonly namespace: string;
  /** The bridge's end of its link. */
  readonly port: string;
}

/** What a bad link does to frames. */
export interface Damage {
  /** Shares of all frames, between 0 and 1. */
  readonly lost?: number;
  readonly flipped?: number;
  /** Each frame is late by between these. Frames that overtake each other are delivered so. */
  readonly leastDelayMs?: number;
  readonly mostDelayMs?: number;
}

export class Network {
  readonly #relays: { readonly child: ChildProcess; readonly device: string }[] = [];
  readonly #hosts = new Map<string, Host>();
  readonly #bridge: string;
  readonly #subnet: string;

  /** Names of devices are at most 15 characters long, so the process id is the only name of this network. */
  constructor() {
    this.#bridge = `ls${process.pid}`;
    // 198.18.0.0/15 is for benchmarks of networks (RFC 2544): nobody's real network is there.
    this.#subnet = `198.18.${process.pid % 256}`;
    ip('link', 'add', this.#bridge, 'type', 'bridge');
    ip('address', 'add', `${this.#subnet}.1/24`, 'dev', this.#bridge);
    ip('link', 'set', this.#bridge, 'up');
  }

  addHost(name: string): Host {
    const number = this.#hosts.size + 2;
    const namespace = `${this.#bridge}-${name}`;
    const host = { name, namespace, address: `${this.#subnet}.${number}`, port: `${this.#bridge}p${number}` };
    this.#hosts.set(name, host);
    ip('netns', 'add', namespace);
    ip('link', 'add', host.port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    ip('link', 'set', host.port, 'master', this.#bridge, 'up');
    ip('-netns', namespace, 'address', 'add', `${host.address}/24`, 'dev', 'eth0');
    ip('-netns', namespace, 'link', 'set', 'lo', 'up');
    ip('-netns', namespace, 'link', 'set', 'eth0', 'up');
    return host;
  }

  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`there is no host ${name}`);
    return host;
  }

  setLink(name: string, state: 'up' | 'down'): void {
    ip('link', 'set', this.host(name).port, state);
  }

  /** What `from` sends to `to` is dropped. */
  drop(from: string, to: string): void {
    this.#blackhole('add', from, to);
  }

  undrop(from: string, to: string): void {
    this.#blackhole('del', from, to);
  }

  /** Neither of the two hears the other any more. */
  cut(left: string, right: string): void {
    this.drop(left, right);
    this.drop(right, left);
  }

  join(left: string, right: string): void {
    this.undrop(left, right);
    this.undrop(right, left);
  }

  #blackhole(verb: 'add' | 'del', from: string, to: string): void {
    ip('-netns', this.host(from).namespace, 'route', verb, 'blackhole', `${this.host(to).address}/32`);
  }

  /** What the host receives comes no faster than this. */
  throttle(name: string, megabits: number): void {
    const rate = ['rate', `${megabits}mbit`, 'burst', '128kb', 'latency', '500ms'];
    execFileSync('tc', ['qdisc', 'replace', 'dev', this.host(name).port, 'root', 'tbf', ...rate]);
  }

  unthrottle(name: string): void {
    execFileSync('tc', ['qdisc', 'del', 'dev', this.host(name).port, 'root']);
  }

  /** What the host sends and what it receives come no faster than this, as over a network card of that speed. */
  shape(name: string, megabits: number): void {
    const { namespace, port } = this.host(name);
    // A burst lasts a millisecond, so that a fast link is not held up by the granularity of the kernel's timers.
    const rate = ['rate', `${megabits}mbit`, 'burst', `${Math.max(256, megabits / 8)}kb`, 'latency', '50ms'];
    execFileSync('tc', ['-netns', namespace, 'qdisc', 'replace', 'dev', 'eth0', 'root', 'tbf', ...rate]);
    execFileSync('tc', ['qdisc', 'replace', 'dev', port, 'root', 'tbf', ...rate]);
  }

  /** From now on the link of the host treats frames as `damage` says, in both directions. */
  async degrade(name: string, damage: Damage): Promise<void> {
    const { port } = this.host(name);
    const [inner, outer] = [`${port}i`, `${port}o`];
    ip('link', 'add', inner, 'type', 'veth', 'peer', 'name', outer);
    for (const device of [port, inner]) ip('link', 'set', device, 'arp', 'off');
    ip('link', 'set', outer, 'master', this.#bridge, 'up');
    ip('link', 'set', inner, 'up');
    ip('link', 'set', port, 'nomaster');
    const script = join(repository, 'test/faults/bad_link.py');
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'python3', script, port, inner, JSON.stringify(damage)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#relays.push({ child, device: inner });
    await once(child.stdout, 'data');
  }

  /** Removes everything, also what a failed test has left half made. */
  close(): void {
    for (const { child } of this.#relays) child.kill('SIGKILL');
    const remove = [...this.#hosts.values()].flatMap(({ namespace, port }) => [
      ['link', 'del', port],
      ['netns', 'del', namespace],
    ]);
    const inner = this.#relays.map(({ device }) => ['link', 'del', device]);
    for (const command of [...inner, ...remove, ['link', 'del', this.#bridge]]) {
      try {
        ip(...command);
      } catch {
        // It was never made.
      }
    }
  }
}
