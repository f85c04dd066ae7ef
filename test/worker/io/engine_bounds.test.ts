/** What bounds users' code, as far as it can be tried without being root. The whole is in test/systemd. */

import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConfigError } from '../../../shared/config.js';
import { ControlGroups } from '../../../worker/io/control_groups.js';
import { asEngine, checkLaunch, helpAsEngine, helperPids } from '../../../worker/io/engine_launch.js';
import { takeModel } from '../../../worker/io/model_folder.js';
import { ScratchFolders } from '../../../worker/io/scratch_folders.js';
import { repository } from '../../system/run_lockstep.js';

let folder = '';
const warnings: string[] = [];
const log = { warn: (line: string) => warnings.push(line) } as never;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-bounds-'));
  warnings.length = 0;
});
afterEach(() => rmSync(folder, { recursive: true }));

const plain = { user: undefined, fileMaxBytes: undefined };
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

const python = { program: 'python3', args: ['-m', 'lockstep.engine'] };

describe('an engine is started', () => {
  it('as it is, where nothing is asked for', () => {
    expect(asEngine(plain, python)).toEqual(python);
  });

  it('as its own user, without any capability, and within limits', () => {
    const { program, args } = asEngine({ user: 'engine', fileMaxBytes: 4096 }, python);
    const group = String(process.getgid?.());
    expect([program, ...args].join(' ')).toBe(
      `prlimit --fsize=4096 --core=0 setpriv --reuid engine --regid ${group} --init-groups --inh-caps=-all --ambient-caps=-all --no-new-privs python3 -m lockstep.engine`,
    );
  });

  it('and what helps it is known to be no orphan for as long as it runs', async () => {
    const helping = helpAsEngine(plain, { program: 'sleep', args: ['0.05'] });
    expect(helperPids().size).toBe(1);
    expect(await helping).toEqual({ printed: '', complaints: [] });
    expect(helperPids().size).toBe(0);
  });

  it('and what helps it ends in time, also where the daemon may not signal what runs as another user', async () => {
    const module = join(repository, 'dist/worker/io/engine_launch.js');
    // As the package's unit starts a worker: not root, and able to become another user.
    const powers = '-all,+setuid,+setgid';
    const other = ['--reuid=nobody', '--regid=nogroup', '--clear-groups', `--inh-caps=${powers}`];
    const asDaemon = ['setpriv', ...other, `--ambient-caps=${powers}`];
    const canBeOther = spawnSync('setpriv', [...asDaemon.slice(1), 'test', '-r', module]).status === 0;
    const user = canBeOther ? 'games' : undefined;
    const program = `
      const { helpAsEngine, helperPids } = await import(${JSON.stringify(module)});
      const end = await helpAsEngine(${JSON.stringify({ user })}, { program: 'sleep', args: ['1741'] }, 0.3);
      console.log(JSON.stringify({ ...end, left: helperPids().size }));`;
    const command = [...(canBeOther ? asDaemon : []), 'node', '--input-type=module', '-e', program];
    const [first = 'node', ...args] = command;
    const { stdout } = await promisify(execFile)(first, args, { cwd: '/', timeout: 8_000 });
    expect(JSON.parse(stdout)).toEqual({ printed: '', complaints: ['sleep: was not done in 0.3 s'], left: 0 });
    const running = readdirSync('/proc').filter(
      (one) => /^\d+$/.test(one) && commandOf(one).startsWith('sleep\x001741'),
    );
    expect(running).toEqual([]);
  });

  it('not at all as a user that is not there', async () => {
    const checking = checkLaunch({ user: 'no-such-user', fileMaxBytes: undefined }, true);
    await expect(checking).rejects.toThrow(ConfigError);
    await expect(checking).rejects.toThrow(/engine\.user: nothing can be run as no-such-user: .*no-such-user/);
  });
});

describe('temporary files', () => {
  const folders = (maxBytes?: number) =>
    new ScratchFolders({ root: join(folder, 'root'), launch: plain, maxBytes, alsoCleared: [], log });

  it('are in a fresh folder for each engine, and gone with it', async () => {
    const scratch = folders();
    const one = scratch.create(1);
    mkdirSync(join(one, 'deep'));
    chmodSync(join(one, 'deep'), 0o000);
    expect(scratch.create(2)).not.toBe(one);
    await scratch.remove(1);
    expect([existsSync(one), existsSync(scratch.folderOf(2))]).toEqual([false, true]);
    await scratch.close();
    expect(existsSync(join(folder, 'root'))).toBe(false);
  });

  it('of a daemon that was killed are removed by the next one', async () => {
    const left = folders().create(1);
    const next = folders();
    await next.clear();
    expect(existsSync(left)).toBe(false);
    expect(next.create(1)).toBe(left);
  });

  it('are measured, whatever comes and goes meanwhile', async () => {
    const scratch = folders(64 * 1024);
    const own = scratch.create(1);
    writeFileSync(join(own, 'small'), Buffer.alloc(4096, 1));
    expect(await scratch.excess(1)).toBeUndefined();
    writeFileSync(join(own, 'large'), Buffer.alloc(128 * 1024, 1));
    expect(await scratch.excess(1)).toMatch(/its temporary files take 1\d{5} bytes; engine\.scratch_max is 65536/);
    expect(await folders().excess(1)).toBeUndefined();
  });

  it('are refused a folder of somebody else', () => {
    symlinkSync('/etc', join(folder, 'root'));
    expect(() => folders()).toThrow(/engine\.scratch_dir/);
  });
});

describe('a control group', () => {
  /** As the kernel shows one, in plain files. */
  function group(controllers: string): string {
    const path = join(folder, 'group');
    mkdirSync(join(path, 'daemon'), { recursive: true });
    writeFileSync(join(path, 'cgroup.controllers'), `${controllers}\n`);
    return path;
  }
  const read = (...path: readonly string[]) => readFileSync(join(folder, 'group', ...path), 'utf8');

  it('bounds an engine, takes it in, and kills all of it', () => {
    const groups = new ControlGroups(group('cpu memory pids'), { memoryMaxBytes: 1024, tasksMax: 32 }, log);
    expect(read('daemon', 'cgroup.procs')).toBe(String(process.pid));
    const engine = groups.create(7);
    expect(read('engine-7', 'memory.max')).toBe('1024');
    expect(read('engine-7', 'memory.oom.group')).toBe('1');
    expect(read('engine-7', 'memory.swap.max')).toBe('0');
    expect(read('engine-7', 'pids.max')).toBe('32');
    engine.add(4711);
    expect(read('engine-7', 'cgroup.procs')).toBe('4711');
    engine.kill();
    expect(read('engine-7', 'cgroup.kill')).toBe('1');
    expect(engine.ranOutOfMemory()).toBe(false);
    writeFileSync(join(folder, 'group/engine-7/memory.events'), 'oom 3\noom_kill 2\noom_group_kill 1\n');
    expect(engine.ranOutOfMemory()).toBe(true);
    expect(warnings).toEqual([]);
  });

  it('without a controller says so once, and bounds what it can', () => {
    const groups = new ControlGroups(group('pids'), { memoryMaxBytes: 1024, tasksMax: 32 }, log);
    groups.create(1);
    groups.create(2);
    expect(warnings).toHaveLength(1);
    expect(read('engine-2', 'pids.max')).toBe('32');
    expect(existsSync(join(folder, 'group/engine-2/memory.max'))).toBe(false);
  });
});

describe('a model that an engine has written', () => {
  const sha256 = createHash('sha256').update('weights').digest('hex');

  it('is taken over when it is the one that the engine named', async () => {
    for (const name of ['from', 'to']) mkdirSync(join(folder, name));
    writeFileSync(join(folder, 'from/model.safetensors'), 'weights');
    await takeModel(join(folder, 'from'), join(folder, 'to'), sha256);
    expect(readFileSync(join(folder, 'to/model.safetensors'), 'utf8')).toBe('weights');
  });

  it.each([
    ['was changed', (from: string) => writeFileSync(join(from, 'model.safetensors'), 'others'), /was changed/],
    ['is a link', (from: string) => symlinkSync('/etc/passwd', join(from, 'model.safetensors')), /ELOOP/],
    ['is a folder', (from: string) => mkdirSync(join(from, 'model.safetensors')), /no file|EISDIR/],
  ])('is not when it %s, and nothing of it stays', async (_, spoil, expected) => {
    for (const name of ['from', 'to']) mkdirSync(join(folder, name));
    spoil(join(folder, 'from'));
    await expect(takeModel(join(folder, 'from'), join(folder, 'to'), sha256)).rejects.toThrow(expected);
    expect(existsSync(join(folder, 'to/model.safetensors'))).toBe(false);
  });
});
