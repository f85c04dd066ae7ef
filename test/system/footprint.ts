/** Everything that a process and its descendants take from the machine, so that a test can say what of it is left. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const SAMPLE_MS = 300;
const SHARED_MEMORY = '/dev/shm';
const LISTENING = '0A';
/** What libfaketime leaves there, in tests with a changed clock that may run at the same time. */
const OTHERS = /faketime/;

interface ProcessStat {
  readonly pid: number;
  readonly parent: number;
  /** Clock ticks after boot; with the pid it names one process for ever. */
  readonly startTime: string;
  readonly state: string;
}

export interface FootprintOptions {
  readonly root: number;
  /** Text that only this run has in its environments or command lines. */
  readonly mark: string;
  /** Look for new processes again and again, and not only when asked. */
  readonly sampling: boolean;
}

export class Footprint {
  readonly #options: FootprintOptions;
  readonly #processes = new Map<number, string>();
  /** Inode of every listening socket that was seen, and its port. */
  readonly #sockets = new Map<string, number>();
  readonly #sharedBefore = new Set(listFolder(SHARED_MEMORY));
  readonly #sampler: NodeJS.Timeout | undefined;

  constructor(options: FootprintOptions) {
    this.#options = options;
    if (options.sampling) this.#sampler = setInterval(() => this.sample(), SAMPLE_MS).unref();
    this.sample();
  }

  /** Descendants that are not dead, the root among them. */
  alive(): readonly number[] {
    return statsOfAll()
      .filter((one) => this.#processes.get(one.pid) === one.startTime && isAlive(one))
      .map((one) => one.pid);
  }

  /** Notes the descendants that are there now. A process stays a descendant when it loses its parent. */
  sample(): void {
    const stats = statsOfAll();
    const children = new Map<number, ProcessStat[]>();
    for (const one of stats) children.set(one.parent, [...(children.get(one.parent) ?? []), one]);
    const ours = stats.filter(
      (one) => one.pid === this.#options.root || this.#processes.get(one.pid) === one.startTime,
    );
    for (let next = ours.pop(); next !== undefined; next = ours.pop()) {
      this.#processes.set(next.pid, next.startTime);
      for (const child of children.get(next.pid) ?? []) {
        if (this.#processes.get(child.pid) !== child.startTime) ours.push(child);
      }
    }
  }

  /** Notes the ports on which the descendants listen now. */
  samplePorts(): readonly number[] {
    const listening = listeningSockets();
    for (const pid of this.alive()) {
      for (const inode of socketsOf(pid)) {
        const port = listening.get(inode);
        if (port !== undefined) this.#sockets.set(inode, port);
      }
    }
    return [...new Set(this.#sockets.values())];
  }

  /** What is still there after `limitMs`; returns as soon as nothing is. */
  async left(limitMs: number): Promise<readonly string[]> {
    const untilMs = performance.now() + limitMs;
    for (;;) {
      const found = this.#leftNow();
      if (found.length === 0 || performance.now() > untilMs) return found;
      await delay(50);
    }
  }

  close(): void {
    clearInterval(this.#sampler);
  }

  #leftNow(): readonly string[] {
    this.sample();
    const descendants = this.alive();
    const marked = statsOfAll().filter((one) => isAlive(one) && carries(one.pid, this.#options.mark));
    const pids = [...new Set([...descendants, ...marked.map((one) => one.pid)])].filter((pid) => pid !== process.pid);
    const listening = listeningSockets();
    return [
      ...pids.map((pid) => `process ${pid}: ${commandOf(pid)}`),
      ...[...this.#sockets].filter(([inode]) => listening.has(inode)).map(([, port]) => `port ${port} is still open`),
      ...this.#sharedLeft(),
    ];
  }

  /** New files that nobody alive uses: whoever made them is gone and has left them. */
  #sharedLeft(): readonly string[] {
    const fresh = listFolder(SHARED_MEMORY)
      .filter((name) => !this.#sharedBefore.has(name) && !OTHERS.test(name))
      .map((name) => `${SHARED_MEMORY}/${name}`);
    if (fresh.length === 0) return [];
    const used = new Set(statsOfAll().flatMap((one) => filesOf(one.pid)));
    return fresh.filter((path) => !used.has(path));
  }
}

/** A zombie is no process any more; whoever has to bury it may be slow, and is not ours. */
function isAlive(one: ProcessStat): boolean {
  return one.state !== 'Z' && one.state !== 'X';
}

function listFolder(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Empty when the process has just gone. */
function readOf(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

function statsOfAll(): readonly ProcessStat[] {
  return listFolder('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => statOf(Number(entry)) ?? []);
}

function statOf(pid: number): ProcessStat | undefined {
  const text = readOf(pid, 'stat');
  // The command in the second field may contain spaces and parentheses. See proc(5): state is field 3, start time 22.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, parent] = fields;
  const startTime = fields[19];
  if (state === undefined || parent === undefined || startTime === undefined) return undefined;
  return { pid, parent: Number(parent), startTime, state };
}

function carries(pid: number, mark: string): boolean {
  return readOf(pid, 'environ').includes(mark) || readOf(pid, 'cmdline').includes(mark);
}

function commandOf(pid: number): string {
  return readOf(pid, 'cmdline').replaceAll('\0', ' ').trim();
}

function descriptorsOf(pid: number): readonly string[] {
  return listFolder(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

function socketsOf(pid: number): readonly string[] {
  return descriptorsOf(pid).flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []);
}

function filesOf(pid: number): readonly string[] {
  const mapped = readOf(pid, 'maps').match(/\/dev\/shm\/[^\n]+/g) ?? [];
  return [...descriptorsOf(pid), ...mapped];
}

/** Inode and port of every listening TCP socket of the machine. */
function listeningSockets(): ReadonlyMap<string, number> {
  const sockets = new Map<string, number>();
  for (const table of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/net/${table}`, 'latin1').split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
      if (state !== LISTENING || local === undefined || inode === undefined) continue;
      sockets.set(inode, Number.parseInt(local.slice(local.lastIndexOf(':') + 1), 16));
    }
  }
  return sockets;
}
