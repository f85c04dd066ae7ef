/** The check for leftovers finds what is left: without this the tests that find nothing would say nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { Footprint } from './footprint.js';

const MARK = `footprint-${process.pid}-${Date.now()}`;
const SHARED = `/dev/shm/${MARK}`;

/** Starts a child in a session and with an environment of its own, which listens on a port; prints its pid and port; leaves a file. */
const LITTERER = `
  import { spawn } from 'node:child_process';
  import { writeFileSync } from 'node:fs';
  const code = 'import("node:net").then((net) => { const s = net.createServer(); s.listen(0, () => console.log(process.pid, s.address().port)); })';
  const child = spawn(process.execPath, ['-e', code], { detached: true, env: {}, stdio: ['ignore', 'inherit', 'inherit'] });
  writeFileSync('${SHARED}', 'x');
  child.unref();
  process.stdin.once('data', () => process.exit(0));
`;

it('an orphan with another environment, its port and a file in /dev/shm are found, and nothing once they are gone', async () => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', LITTERER], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, MARK },
  });
  const footprint = new Footprint({ root: child.pid ?? 0, mark: MARK, sampling: false });
  const [line] = await once(createInterface(child.stdout), 'line');
  const [orphan, port] = String(line).split(' ').map(Number);
  footprint.sample();
  expect(footprint.samplePorts()).toEqual([port]);
  child.stdin.write('\n');
  await once(child, 'exit');

  const left = await footprint.left(0);
  expect(left).toContainEqual(expect.stringMatching(new RegExp(`^process ${orphan}: `)));
  expect(left).toContain(`port ${port} is still open`);
  expect(left).toContain(SHARED);
  expect(left).toHaveLength(3);

  process.kill(orphan ?? 0, 'SIGKILL');
  rmSync(SHARED);
  expect(await footprint.left(5000)).toEqual([]);
  footprint.close();
});
