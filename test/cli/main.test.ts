/** bin/lockstep as a process: what it says, and when it ends. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { TestAuthority } from '../certificates.js';

const lockstep = fileURLToPath(new URL('../../bin/lockstep', import.meta.url));

function run(args: readonly string[], stdout: string, stderr: string) {
  const out = openSync(stdout, 'w');
  const err = stderr === 'pipe' ? 'pipe' : openSync(stderr, 'w');
  const ended = spawnSync(process.execPath, [lockstep, ...args], { stdio: ['ignore', out, err], encoding: 'utf8' });
  for (const fd of [out, err]) if (typeof fd === 'number') closeSync(fd);
  return { status: ended.status, said: ended.stderr };
}

it('what cannot be written is said, and is a failure', () => {
  expect(run(['completion', 'bash'], '/dev/full', 'pipe')).toEqual({
    status: 1,
    said: 'lockstep: the output cannot be written: ENOSPC: no space left on device, write\n',
  });
  expect(run(['completion', 'bash'], '/dev/null', 'pipe')).toEqual({ status: 0, said: '' });
});

it('an error that cannot be said leaves the exit code as it is', () => {
  expect(run(['no-such-command'], '/dev/null', '/dev/full')).toMatchObject({ status: 2 });
});

it('ends with its last word, whoever has not answered', async () => {
  // Takes connections and says nothing, so that no handshake ever ends.
  const silent = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  onTestFinished(() => void silent.close());
  const authority = await TestAuthority.make();
  onTestFinished(() => authority.remove());
  const tls = await authority.folderOf('admin', 'ada');
  const { port } = silent.address() as AddressInfo;
  const child = spawn(process.execPath, [lockstep, 'nodes', '--server', `127.0.0.1:${port}`, '--tls-dir', tls]);
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(silent, 'connection');
  child.kill('SIGINT');
  const [said]: Buffer[] = await once(child.stderr, 'data');
  expect(String(said)).toBe('lockstep: interrupted\n');
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(10_000) });
  expect(code).toBe(130);
});
