/**
 * Each engine in a control group of its own, below that of this daemon: its memory and its tasks are bounded, and it is killed with all
 * that it has started, whatever that has done to get away. Only where the service manager has handed the daemon's group over to it
 * (`Delegate=` of a unit); plain file operations on cgroup v2.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import koffi from 'koffi';
import type { Logger } from '../../shared/logger.js';
import type { Used } from './usage.js';

const REMOVE_TRIES = 50;
const REMOVE_PAUSE_MS = 100;
const ENGINE = /^engine-\d+$/;

export interface GroupLimits {
  readonly memoryMaxBytes: number | undefined;
  readonly tasksMax: number;
}

export interface EngineGroup {
  /** The process, and what it starts from now on, is in the group. */
  add(pid: number): void;
  /** SIGKILL to all that is in it. */
  kill(): void;
  /** Once nothing is in it any more. */
  remove(): Promise<void>;
  /** Something in it was killed because it wanted more memory than it may have. */
  ranOutOfMemory(): boolean;
  /** Undefined where memory is not counted. */
  used(): Used | undefined;
}

/** The folder of the group that was handed over to this process; undefined: none was. */
export function delegatedGroup(): string | undefined {
  const path = /^0::(\/.+)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  const mount = mountPoint();
  if (path === undefined || mount === undefined) return undefined;
  const folder = join(mount, path);
  return hasMark(folder) ? folder : undefined;
}

/** Of cgroup v2; see proc(5). */
function mountPoint(): string | undefined {
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((one) => one.includes(' - cgroup2 '));
  return line?.split(' ')[4];
}

/** systemd marks what it delegates with an extended attribute. */
function hasMark(folder: string): boolean {
  const getxattr = koffi
    .load('libc.so.6')
    .func('long getxattr(const char *path, const char *name, void *value, size_t size)');
  const value = Buffer.alloc(1);
  return Number(getxattr(folder, 'user.delegate', value, value.length)) === 1 && value.toString() === '1';
}

export class ControlGroups {
  readonly #controllers: ReadonlySet<string>;

  /** `folder` is the group of this process. Throws where its files cannot be written. */
  constructor(
    private readonly folder: string,
    private readonly limits: GroupLimits,
    private readonly log: Pick<Logger, 'warn'>,
  ) {
    // A group whose children have controllers may have no processes of its own.
    this.#enter(join(folder, 'daemon'));
    for (const left of readdirSync(folder).filter((name) => ENGINE.test(name))) void remove(join(folder, left));
    const there = new Set(readFileSync(join(folder, 'cgroup.controllers'), 'utf8').trim().split(/\s+/));
    const wanted = ['memory', 'pids'];
    this.#controllers = new Set(wanted.filter((name) => there.has(name)));
    const missing = wanted.filter((name) => !there.has(name));
    if (missing.length > 0) {
      log.warn('engines run without some of their limits: the control group has no such controller', { missing });
    }
    for (const name of this.#controllers) writeFileSync(join(folder, 'cgroup.subtree_control'), `+${name}`);
  }

  #enter(group: string): void {
    mkdirSync(group, { recursive: true });
    writeFileSync(join(group, 'cgroup.procs'), String(process.pid));
  }

  create(start: number): EngineGroup {
    const group = join(this.folder, `engine-${start}`);
    mkdirSync(group);
    const { memoryMaxBytes, tasksMax } = this.limits;
    if (this.#controllers.has('pids')) writeFileSync(join(group, 'pids.max'), String(tasksMax));
    if (this.#controllers.has('memory')) {
      // What is left of an engine that has lost a part of itself is worth nothing.
      writeFileSync(join(group, 'memory.oom.group'), '1');
      if (memoryMaxBytes !== undefined) {
        writeFileSync(join(group, 'memory.max'), String(memoryMaxBytes));
        this.#write(join(group, 'memory.swap.max'), '0');
      }
    }
    return {
      add: (pid) => this.#write(join(group, 'cgroup.procs'), String(pid)),
      kill: () => this.#write(join(group, 'cgroup.kill'), '1'),
      remove: () => remove(group),
      ranOutOfMemory: () => /^oom_kill [1-9]/m.test(read(join(group, 'memory.events'))),
      used: () => groupUsed(group),
    };
  }

  /** The process may be gone, and a kernel may have no such file (swap, or cgroup.kill before Linux 5.14). */
  #write(file: string, text: string): void {
    try {
      writeFileSync(file, text);
    } catch (error) {
      this.log.warn('a control group could not be told', { file, error: String(error) });
    }
  }
}

/** Memory as resident memory counts it: without the files that the kernel keeps in it as long as nobody else wants it. */
export function groupUsed(group: string): Used | undefined {
  const memory = read(join(group, 'memory.stat'));
  const cpu = read(join(group, 'cpu.stat'));
  const [anonymous, shared, micros] = [
    numberIn(memory, 'anon'),
    numberIn(memory, 'shmem'),
    numberIn(cpu, 'usage_usec'),
  ];
  if (anonymous === undefined || shared === undefined || micros === undefined) return undefined;
  return { memoryBytes: anonymous + shared, cpuSeconds: micros / 1e6 };
}

function numberIn(text: string, name: string): number | undefined {
  const found = new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The kernel takes a moment to bury what was in it. */
async function remove(group: string): Promise<void> {
  for (let tries = 0; tries < REMOVE_TRIES; tries++) {
    try {
      rmdirSync(group);
      return;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      await delay(REMOVE_PAUSE_MS);
    }
  }
}
