import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkEtcd, clockFinding } from '../../cli/doctor/cluster.js';
import { checkEngine } from '../../cli/doctor/engine.js';
import type { Finding } from '../../cli/doctor/finding.js';
import {
  checkDisk,
  checkMemory,
  checkNode,
  checkOpenFiles,
  checkPort,
  checkSharedMemory,
  diskFinding,
  sharedMemoryFinding,
} from '../../cli/doctor/machine.js';

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

function memory(limitGib: number, freeGib: number) {
  return { limitBytes: limitGib * GIB, from: 'x', freeBytes: freeGib * GIB };
}

const DISK = { folder: '/code', problem: '', freeBytes: GIB, bytesPerSecond: 3e8 };

describe('the machine', () => {
  it.each([
    ['Node.js that is new enough', checkNode('20.15.0'), 'ok'],
    ['Node.js of tomorrow', checkNode('26.1.0'), 'ok'],
    ['Node.js that is too old', checkNode('20.14.9'), 'fail'],
    ['Node.js that is much too old', checkNode('18.20.0'), 'fail'],
    ['enough memory', checkMemory(memory(8, 7)), 'ok'],
    ['scant memory', checkMemory(memory(1.5, 1)), 'warn'],
    ['too little memory', checkMemory(memory(0.5, 0.5)), 'fail'],
    ['memory that others use', checkMemory(memory(8, 0.2)), 'fail'],
    ['many open files', checkOpenFiles('Max open files            65536   65536   files\n'), 'ok'],
    ['any number of open files', checkOpenFiles('Max open files            unlimited   unlimited   files\n'), 'ok'],
    ['some open files', checkOpenFiles('Max open files            1024   65536   files\n'), 'warn'],
    ['few open files', checkOpenFiles('Max open files            256   65536   files\n'), 'fail'],
    ['no /dev/shm', checkSharedMemory('/no/such/folder'), 'warn'],
    ['a /dev/shm that is large enough', sharedMemoryFinding('/dev/shm', GIB, GIB), 'ok'],
    ['a /dev/shm of a container, too small', sharedMemoryFinding('/dev/shm', 6e7, 6.4e7), 'warn'],
    ['a /dev/shm that is full', sharedMemoryFinding('/dev/shm', 0, GIB), 'warn'],
    ['room for code', diskFinding(DISK), 'ok'],
    ['little room for code', diskFinding({ ...DISK, freeBytes: 1e7 }), 'fail'],
    ['no writable folder for code', diskFinding({ ...DISK, problem: 'EROFS: read-only file system' }), 'fail'],
    ['a clock that is near', clockFinding(12), 'ok'],
    ['a clock that is late', clockFinding(-3_600_000), 'warn'],
  ])('with %s is judged so, and told what to do', (_, finding, status) => {
    expect(finding.status).toBe(status);
    expect(finding.advice === '').toBe(status === 'ok');
    expect(finding.found).not.toBe('');
  });

  it('has a disk whose speed is measured in a folder that is not there yet, and nothing is left of it', async () => {
    expect(await checkDisk(join(folder, 'not', 'yet'))).toMatchObject({
      status: 'ok',
      found: expect.stringMatching(/free, and is written at \S+ [kMG]B\/s/),
    });
    expect(readdirSync(folder).filter((name) => name.startsWith('preflight'))).toEqual([]);
  });

  it('has ports that are taken and ports that are not', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    expect(await checkPort(`127.0.0.1:${port}`)).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(/EADDRINUSE/),
      advice: expect.stringMatching(/end what does/),
    });
    expect(await checkPort('127.0.0.1:0')).toMatchObject({ status: 'ok' });
    // TEST-NET-1, which no machine has.
    expect(await checkPort('192.0.2.1:7000')).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(/EADDRNOTAVAIL/),
      advice: expect.stringMatching(/no such address/),
    });
    server.close();
  });
});

/** What engine/preflight.py says, step by step. */
const STARTED = [
  '{"python": "3.11.2", "memfd": ""}',
  '{"torch": "2.1.0", "cuda": "12.1"}',
  '{"device": "cuda", "device_name": "H100", "gpus": 8}',
  '{"device_free_bytes": 80000000000}',
  '{"matmul_gflops": 51234.5}',
];
const ON_PROCESSOR = '{"device": "cpu", "device_name": "cpu", "gpus": 0}';

function saying(name: string, lines: readonly string[], end = 'exit 0'): string {
  return python(name, [...lines.map((line) => `echo '${line}'`), end].join('\n'));
}

function engine(path: string, offersGpu = false): Promise<readonly Finding[]> {
  const signal = new AbortController().signal;
  return checkEngine({ python: path, gpu: 0, offersGpu, environment: {}, signal });
}

describe('an engine', () => {
  it('that could run is fine, whatever else its libraries print', async () => {
    const findings = await engine(saying('good', ['a warning', ...STARTED]), true);
    expect(findings.map(({ check, status }) => [check, status])).toEqual([
      ['python', 'ok'],
      ['torch', 'ok'],
      ['gpu', 'ok'],
      ['engine', 'ok'],
      ['memory files', 'ok'],
    ]);
    expect(findings.map(({ found }) => found).join()).toMatch(
      /for CUDA 12.1.*H100, of 8.*computes on cuda at 5.12e\+4 GFLOP/s,
    );
  });

  it('takes the processor where no GPU is offered', async () => {
    const [interpreter = '', torch = ''] = STARTED;
    const findings = await engine(saying('cpu', [interpreter, torch, ON_PROCESSOR, '{"matmul_gflops": 98.5}']));
    expect(findings.map(({ check, status }) => [check, status])).toContainEqual(['gpu', 'warn']);
    expect(findings.find(({ check }) => check === 'engine')).toMatchObject({
      status: 'ok',
      found: expect.stringMatching(/98.5 GFLOP/),
    });
  });

  it.each([
    ['a build without CUDA', '{"torch": "2.1.0", "cuda": ""}', /built without CUDA/, /a build of PyTorch for CUDA/],
    [
      'no driver',
      '{"torch": "2.1.0", "cuda": "12.1"}',
      /for CUDA 12.1, sees none/,
      /nvidia-smi.*too old for CUDA 12.1/,
    ],
  ])('that does not find the GPU that is offered is told why: %s', async (name, torch, found, advice) => {
    const lines = [STARTED[0] ?? '', torch, ON_PROCESSOR, '{"matmul_gflops": 98.5}'];
    const findings = await engine(saying(name.replaceAll(' ', '-'), lines), true);
    expect(findings.find(({ check }) => check === 'gpu')).toMatchObject({
      status: 'fail',
      found: expect.stringMatching(found),
      advice: expect.stringMatching(advice),
    });
  });

  it('with a PyTorch that is too old is told which one it needs', async () => {
    const lines = [STARTED[0] ?? '', '{"torch": "1.12.1", "cuda": ""}', ON_PROCESSOR, '{"matmul_gflops": 98.5}'];
    const findings = await engine(saying('old', lines));
    expect(findings.filter(({ status }) => status === 'fail')).toEqual([
      expect.objectContaining({
        check: 'torch',
        found: '1.12.1, built without CUDA',
        advice: expect.stringMatching(/1\.13 or later/),
      }),
    ]);
  });

  it('that dies when it starts is told of with its last words', async () => {
    const dying = saying('dying', STARTED.slice(0, 2), 'echo "libcudart.so.12: cannot open" >&2; exit 127');
    const findings = await engine(dying, true);
    expect(findings.find(({ check }) => check === 'engine')).toMatchObject({
      status: 'fail',
      found: 'libcudart.so.12: cannot open',
    });
  });

  it('without PyTorch, or without memory files, is told of', async () => {
    const lines = [
      '{"python": "3.11.2", "memfd": "Operation not permitted"}',
      '{"problem": "ModuleNotFoundError: No module named torch"}',
    ];
    const findings = await engine(saying('bare', lines));
    expect(findings.filter(({ status }) => status === 'fail')).toEqual([
      expect.objectContaining({
        check: 'torch',
        found: 'ModuleNotFoundError: No module named torch',
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
      expect(await engine(path)).toEqual([
        expect.objectContaining({ check: 'python', status: 'fail', found: expect.stringMatching(says) }),
      ]);
    }
  });
});

it('an etcd that does not answer is told of with its address', async () => {
  const finding = await checkEtcd(['http://127.0.0.1:1'], '/lockstep');
  expect(finding).toMatchObject({ status: 'fail', found: expect.stringContaining('http://127.0.0.1:1') });
});
