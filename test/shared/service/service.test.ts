import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ConfigError } from '../../../shared/config.js';
import { daemonArguments } from '../../../shared/service/daemon_arguments.js';
import { askForTime } from '../../../shared/service/drain.js';
import { Lasting } from '../../../shared/service/lasting.js';
import { readyWhen } from '../../../shared/service/ready.js';
import { feedEveryMs, managerOf } from '../../../shared/service/service_manager.js';
import { startWatchdog } from '../../../shared/service/watchdog.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const quiet = { error: () => undefined } as never;

describe('the watchdog', () => {
  it('is fed four times within its limit', () => {
    expect(feedEveryMs({ WATCHDOG_USEC: '30000000' }, 7)).toBe(7_500);
    expect(feedEveryMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7)).toBe(7_500);
  });

  it('is not there where none is asked for, or another process is meant', () => {
    for (const [environment, pid] of [
      [{}, 7],
      [{ WATCHDOG_USEC: '0' }, 7],
      [{ WATCHDOG_USEC: 'x' }, 7],
      [{ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, 7],
    ] as const) {
      expect(feedEveryMs(environment, pid)).toBeUndefined();
    }
  });

  it('is fed as long as nothing is wrong, goes hungry while something is, and the log says what, once', () => {
    const said: string[] = [];
    const errors: unknown[] = [];
    let problem: string | undefined;
    const log = { error: (_: string, fields: unknown) => errors.push(fields) } as never;
    const stop = startWatchdog({ manager: managerOf((state) => said.push(state), 1000), problem: () => problem, log });
    vi.advanceTimersByTime(3000);
    expect(said).toEqual(['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
    problem = 'it is stuck';
    vi.advanceTimersByTime(3000);
    expect(said).toHaveLength(3);
    expect(errors).toEqual([{ problem: 'it is stuck' }]);
    problem = undefined;
    vi.advanceTimersByTime(1000);
    expect(said).toHaveLength(4);
    stop();
    vi.advanceTimersByTime(3000);
    expect(said).toHaveLength(4);
  });

  it('is left alone where there is none', () => {
    const said: string[] = [];
    startWatchdog({ manager: managerOf((state) => said.push(state), undefined), problem: () => undefined, log: quiet });
    vi.advanceTimersByTime(60_000);
    expect(said).toEqual([]);
  });
});

it('a daemon is ready when it is registered, or after a while without etcd', async () => {
  const said: string[] = [];
  const manager = managerOf((state) => said.push(state), undefined);
  let registered = (): void => undefined;
  readyWhen(new Promise((resolve) => (registered = resolve)), manager, 'worker w1');
  await vi.advanceTimersByTimeAsync(10_000);
  expect(said).toEqual([]);
  registered();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(said).toEqual(['READY=1\nSTATUS=worker w1']);
  readyWhen(new Promise(() => undefined), manager, 'worker w2');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(said.slice(1)).toEqual(['READY=1\nSTATUS=worker w2, without etcd']);
});

it('a daemon that drains asks for more time again and again', () => {
  const said: string[] = [];
  askForTime(
    managerOf((state) => said.push(state), undefined),
    'hands over',
  );
  vi.advanceTimersByTime(2_000);
  expect(said).toEqual(['STOPPING=1\nSTATUS=hands over', ...Array(3).fill('EXTEND_TIMEOUT_USEC=10000000')]);
});

it('what lasts is a fault only when it has been so at every look', () => {
  const lasting = new Lasting(100);
  expect([0, 99].map((ms) => lasting.look(ms, true))).toEqual([false, false]);
  expect(lasting.look(100, true)).toBe(true);
  expect(lasting.look(101, false)).toBe(false);
  expect([102, 201].map((ms) => lasting.look(ms, true))).toEqual([false, false]);
  expect(lasting.look(202, true)).toBe(true);
});

it('says what a real service manager understands', async () => {
  vi.useRealTimers();
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-notify-'));
  try {
    // systemd's own library, told where to send to by the environment that it reads itself.
    const code = `
      import { serviceManager } from '${new URL('../../../dist/shared/service/service_manager.js', import.meta.url).href}';
      const manager = serviceManager(process.env);
      manager.ready('here'); manager.feed(); manager.extend(1500);
      console.log(manager.feedEveryMs);`;
    const listener = [
      'import socket, subprocess, sys',
      's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(10)',
      'e = {"NOTIFY_SOCKET": sys.argv[1], "WATCHDOG_USEC": "4000000", "PATH": "/usr/bin"}',
      'print(subprocess.run([sys.argv[2], "--input-type=module", "-e", sys.argv[3]], env=e, capture_output=True, text=True).stdout.strip())',
      'print([s.recv(4096).decode() for _ in range(3)])',
    ].join('\n');
    const out = execFileSync('python3', ['-c', listener, join(folder, 'notify'), process.execPath, code], {
      encoding: 'utf8',
    });
    expect(out).toBe("1000\n['READY=1\\nSTATUS=here', 'WATCHDOG=1', 'EXTEND_TIMEOUT_USEC=1500000']\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

describe('the command line of a daemon', () => {
  it.each([
    [[], { config: '/etc/lockstep/worker.yaml', checkOnly: false }],
    [['--config', 'a.yaml'], { config: 'a.yaml', checkOnly: false }],
    [['--check-config'], { config: '/etc/lockstep/worker.yaml', checkOnly: true }],
    [['--check-config', '--config=a.yaml'], { config: 'a.yaml', checkOnly: true }],
  ])('%j', (args, expected) => {
    expect(daemonArguments('worker', args)).toEqual(expected);
  });

  it.each([[['--config']], [['--conf', 'x']], [['x']], [['--check-config=yes']]])('%j is refused', (args) => {
    expect(() => daemonArguments('worker', args)).toThrow(ConfigError);
    expect(() => daemonArguments('worker', args)).toThrow(/usage: lockstep-worker/);
  });
});
