/** bin/lockstep with an output that cannot be written. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

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
