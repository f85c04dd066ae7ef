/**
 * A machine of its own for a test: root file system, processes, control groups and network apart from the real one's, run by a real
 * systemd. Whatever becomes of it, it dies with the test. Needs root.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const BOOT = fileURLToPath(new URL('boot.sh', import.meta.url));
const BOOT_MS = 30_000;
const COMMAND_MS = 120_000;
const REMOVE_TRIES = 100;
/** Of cgroup v2, alone or beside the controllers of version 1. */
const GROUPS = existsSync('/sys/fs/cgroup/unified') ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup';

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface MachineOptions {
  readonly name: string;
  readonly manager?: 'system' | 'user';
  /** A network namespace that is there already; else it has one of its own, with a loopback only. */
  readonly network?: string;
  /** Is seen by the machine and the test at the same path. */
  readonly shared: string;
}

export function newSharedFolder(): string {
  return mkdtempSync(join(tmpdir(), 'lockstep-machine-'));
}

export class Machine {
  readonly #log: string[] = [];
  #pid = 0;

  private constructor(
    readonly options: MachineOptions,
    private readonly child: ChildProcess,
    private readonly group: string,
  ) {
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => this.#log.push(String(chunk)));
  }

  static async boot(options: MachineOptions): Promise<Machine> {
    const { name, shared, network, manager = 'system' } = options;
    const group = join(GROUPS, `lockstep-${process.pid}-${name}`);
    mkdirSync(group);
    // In its group before the namespaces are made: it is the root that the machine sees.
    const enter = `echo $$ >${join(group, 'cgroup.procs')} && exec "$@"`;
    const net = network === undefined ? ['--net'] : [];
    const inNetwork = network === undefined ? [] : ['ip', 'netns', 'exec', network];
    const unshare = [
      'unshare',
      '--mount',
      '--pid',
      '--cgroup',
      '--ipc',
      '--uts',
      ...net,
      '--fork',
      '--kill-child=KILL',
    ];
    const command = ['setpriv', '--pdeathsig', 'KILL', ...inNetwork, ...unshare, BOOT, name, shared, manager];
    const child = spawn('sh', ['-c', enter, 'sh', ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    const machine = new Machine(options, child, group);
    try {
      await machine.#untilUp();
    } catch (error) {
      await machine.close();
      throw error;
    }
    return machine;
  }

  /** Of process 1, as the real machine numbers it. */
  get pid(): number {
    return this.#pid;
  }

  get log(): string {
    return this.#log.join('');
  }

  async #untilUp(): Promise<void> {
    const untilMs = performance.now() + BOOT_MS;
    while (performance.now() < untilMs) {
      if (this.child.exitCode !== null) break;
      this.#pid = firstProcess(this.child.pid ?? 0);
      const { out } = await this.systemctl('is-system-running');
      if (/^(running|degraded|starting)/.test(out)) return;
      await delay(50);
    }
    throw new Error(`the machine ${this.options.name} did not come up: ${this.log.slice(-4000)}`);
  }

  /** Runs a command on the machine, as root. */
  run(...command: readonly string[]): Promise<Ran> {
    const environment = [
      'env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'XDG_RUNTIME_DIR=/run/user/0',
    ];
    const args = ['-t', String(this.#pid), '--all', ...environment, ...command];
    const options = { timeout: COMMAND_MS, maxBuffer: 64 * 1024 * 1024, killSignal: 'SIGKILL' } as const;
    return new Promise((resolve) => {
      execFile('nsenter', args, options, (error, out, err) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255;
        resolve({ code, out, err });
      });
    });
  }

  /** Throws when it fails. */
  async must(...command: readonly string[]): Promise<string> {
    const { code, out, err } = await this.run(...command);
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${err}${out}`);
    return out;
  }

  systemctl(...args: readonly string[]): Promise<Ran> {
    const user = this.options.manager === 'user' ? ['--user'] : [];
    return this.run('systemctl', ...user, ...args);
  }

  /** A property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.systemctl('show', '--value', '-p', property, unit)).out.trim();
  }

  async mainPid(unit: string): Promise<number> {
    return Number(await this.show(unit, 'MainPID'));
  }

  async journal(unit: string): Promise<string> {
    return (await this.run('journalctl', '--no-pager', '-o', 'cat', '-u', unit)).out;
  }

  /** Writes a file below the root of the machine. */
  async write(path: string, text: string): Promise<void> {
    const name = join(this.options.shared, `.file-${this.options.name}`);
    writeFileSync(name, text);
    await this.must('install', '-D', '-m', '0644', name, path);
    rmSync(name);
  }

  /** Kills everything on it. */
  async close(): Promise<void> {
    writeFileSync(join(this.group, 'cgroup.kill'), '1');
    this.child.kill('SIGKILL');
    for (let tries = 0; tries < REMOVE_TRIES && !removed(this.group); tries++) await delay(50);
    if (existsSync(this.group))
      throw new Error(`of ${this.options.name} are left: ${processesBelow(this.group).join(' ')}`);
  }

  /** Processes that run below the machine now, as the real machine numbers them. */
  processes(): readonly number[] {
    return processesBelow(this.group);
  }
}

/** Of the namespace of the child that unshare has made. */
function firstProcess(launcher: number): number {
  try {
    const [child = 0] = execFileSync('pgrep', ['-P', String(launcher)], { encoding: 'utf8' })
      .split('\n')
      .map(Number);
    return child;
  } catch {
    return 0;
  }
}

function foldersBelow(group: string): readonly string[] {
  return readdirSync(group, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [...foldersBelow(join(group, entry.name)), join(group, entry.name)]);
}

function processesBelow(group: string): readonly number[] {
  return [...foldersBelow(group), group].flatMap((folder) =>
    readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number),
  );
}

function removed(group: string): boolean {
  try {
    for (const folder of [...foldersBelow(group), group]) rmdirSync(folder);
    return true;
  } catch {
    return !existsSync(group);
  }
}
