import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkEtcd, clockFinding } from '../../cli/doctor/cluster.js';
import { checkEngine } from '../../cli/doctor/engine.js';
import { checkMemory, checkNode, checkOpenFiles, checkPort, checkSharedMemory } from '../../cli/doctor/machine.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-doctor-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** An interpreter that says this. */
function python(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

const GIB = 1024 ** 3;

describe('the machine', () => {
  it.each([
    ['Node.js that is new enough', checkNode('20.15.0'), 'ok'],
    ['Node.js of tomorrow', checkNode('26.1.0'), 'ok'],
    ['Node.js that is too old', checkNode('20.14.9'), 'fail'],
    ['Node.js that is much too old', checkNode('18.20.0'), 'fail'],
    ['enough memory', checkMemory({ bytes: 8 * GIB, from: 'x' }), 'ok'],
    ['scant memory', checkMemory({ bytes: 1.5 * GIB, from: 'x' }), 'warn'],
    ['too little memory', checkMemory({ bytes: 0.5 * GIB, from: 'x' }), 'fail'],
    ['many open files', checkOpenFiles('Max open files            65536   65536   files\n'), 'ok'],
    ['any number of open files', checkOpenFiles('Max open files            unlimited   unlimited   files\n'), 'ok'],
    ['some open files', checkOpenFiles('Max open files            1024   65536   files\n'), 'warn'],
    ['few open files', checkOpenFiles('Max open files            256   65536   files\n'), 'fail'],
    ['no /dev/shm', checkSharedMemory('/no/such/folder'), 'warn'],
    ['a clock that is near', clockFinding(12), 'ok'],
    ['a clock that is late', clockFinding(-3_600_000), 'warn'],
  ])('with %s is judged so, and told what to do', (_, finding, status) => {
    expect(finding.status).toBe(status);
    expect(finding.advice === '').toBe(status === 'ok');
    expect(finding.found).not.toBe('');
  });

  it('has ports that are taken and ports that are not', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    expect(await checkPort(`127.0.0.1:${port}`)).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(/EADDRINUSE/),
    });
    expect(await checkPort('127.0.0.1:0')).toMatchObject({ status: 'ok' });
    server.close();
  });
});

describe('an engine', () => {
  it('that could run is fine', async () => {
    const said = '{"python": "3.11.2", "memfd": "", "torch": "2.1.0", "gpus": ["H100"]}';
    const findings = await checkEngine(python('good', `echo 'a warning'; echo '${said}'`));
    expect(findings.map(({ check, status }) => [check, status])).toEqual([
      ['python', 'ok'],
      ['torch', 'ok'],
      ['gpu', 'ok'],
      ['memory files', 'ok'],
    ]);
  });

  it('without a GPU takes the processor', async () => {
    const said = '{"python": "3.11.2", "memfd": "", "torch": "2.1.0", "gpus": []}';
    const findings = await checkEngine(python('cpu', `echo '${said}'`));
    expect(findings.find(({ check }) => check === 'gpu')).toMatchObject({ status: 'warn' });
  });

  it('without PyTorch, or without memory files, is told of', async () => {
    const said = '{"python": "3.11.2", "memfd": "Operation not permitted", "problem": "ModuleNotFoundError: torch"}';
    const findings = await checkEngine(python('bare', `echo '${said}'`));
    expect(findings.filter(({ status }) => status === 'fail')).toEqual([
      expect.objectContaining({
        check: 'torch',
        found: 'ModuleNotFoundError: torch',
        advice: expect.stringMatching(/setup/),
      }),
      expect.objectContaining({ check: 'memory files', found: 'Operation not permitted' }),
    ]);
  });

  it('whose interpreter is not there, dies or talks nonsense is told of in one line', async () => {
    const dead = python('dead', 'echo "Segmentation fault" >&2; exit 139');
    for (const [path, says] of [
      ['/no/such/python', /ENOENT/],
      [dead, /Segmentation fault/],
      [python('nonsense', 'echo hello'), /nothing that can be understood/],
    ] as const) {
      expect(await checkEngine(path)).toEqual([
        expect.objectContaining({ check: 'python', status: 'fail', found: expect.stringMatching(says) }),
      ]);
    }
  });
});

it('an etcd that does not answer is told of with its address', async () => {
  const finding = await checkEtcd(['http://127.0.0.1:1'], '/lockstep');
  expect(finding).toMatchObject({ status: 'fail', found: expect.stringContaining('http://127.0.0.1:1') });
});
