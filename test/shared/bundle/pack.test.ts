import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { archiveOf, packFolder, sha256Of } from '../../../shared/bundle/pack.js';
import { readArchive } from '../../../shared/bundle/read_archive.js';
import { unpackInto } from '../../../shared/bundle/unpack.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-pack-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Uint8Array = name): void {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
}

async function names(): Promise<readonly string[]> {
  return (await packFolder(folder)).files.map((file) => file.name);
}

const part = fc.stringMatching(/^[a-z\u00e9\u4e16 ._-]{1,40}$/).filter((text) => !/^\.\.?$/.test(text));
const file = fc.record({
  name: fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('/')),
  content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  executable: fc.boolean(),
});
/** None lies in another. */
const files = fc
  .uniqueArray(file, { selector: ({ name }) => name, maxLength: 20 })
  .map((all) => all.filter(({ name }) => !all.some((other) => name.startsWith(`${other.name}/`))));

describe('an archive', () => {
  it('holds what was packed, whatever it is called and contains', async () => {
    await fc.assert(
      fc.asyncProperty(files, async (all) => {
        expect(await readArchive(await archiveOf(all))).toEqual(all);
      }),
      { numRuns: 60 },
    );
  });

  it('is the same from one byte to the last for the same content', async () => {
    await fc.assert(
      fc.asyncProperty(files, async (all) => {
        expect((await archiveOf(all)).equals(await archiveOf(all))).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  it('is another for another content, name or mode', async () => {
    const one = { name: 'a.py', content: Buffer.from('1'), executable: false };
    const digests = await Promise.all(
      [one, { ...one, name: 'b.py' }, { ...one, content: Buffer.from('2') }, { ...one, executable: true }].map(
        async (changed) => sha256Of(await archiveOf([changed])),
      ),
    );
    expect(new Set(digests).size).toBe(4);
  });
});

describe('a folder', () => {
  it('is packed the same whatever its times, owners, modes and the order of its entries', async () => {
    for (const name of ['b.py', 'a/c.py', 'a.py']) write(name);
    const before = await packFolder(folder);
    utimesSync(join(folder, 'b.py'), 1, 1);
    chmodSync(join(folder, 'a.py'), 0o600);
    rmSync(join(folder, 'a/c.py'));
    write('a/c.py');
    const after = await packFolder(folder);
    expect(after.sha256).toBe(before.sha256);
    expect(after.files.map((one) => one.name)).toEqual(['a.py', 'a/c.py', 'b.py']);
  });

  it('comes out of its archive as it went in, private', async () => {
    write('task.py', 'x = 1\n');
    write('sub/run.sh', '#!/bin/sh\n');
    chmodSync(join(folder, 'sub/run.sh'), 0o775);
    const { archive } = await packFolder(folder);
    const target = mkdtempSync(join(tmpdir(), 'lockstep-unpack-'));
    await unpackInto(target, archive);
    expect(readFileSync(join(target, 'task.py'), 'utf8')).toBe('x = 1\n');
    const modes = execFileSync('stat', ['-c', '%a', 'task.py', 'sub', 'sub/run.sh'], { cwd: target }).toString();
    expect(modes).toBe('600\n700\n700\n');
    rmSync(target, { recursive: true });
  });

  it('leaves out what .gitignore names, and what tools make, but never what a deeper .gitignore takes back', async () => {
    write('.gitignore', '*.log\n/data/\nout/*\n!out/keep.txt\n');
    for (const name of ['task.py', 'a.log', 'data/big.bin', 'sub/data/small.bin', 'out/x', 'out/keep.txt']) write(name);
    write('sub/.gitignore', '!wanted.log\nlocal.txt\n');
    for (const name of ['sub/wanted.log', 'sub/b.log', 'sub/local.txt', 'local.txt']) write(name);
    for (const name of ['.git/config', 'sub/__pycache__/x.pyc', 'node_modules/x/y.js']) write(name);
    write('.github/keep');
    expect(await names()).toEqual([
      '.github/keep',
      '.gitignore',
      'local.txt',
      'out/keep.txt',
      'sub/.gitignore',
      'sub/data/small.bin',
      'sub/wanted.log',
      'task.py',
    ]);
  });

  it('leaves out what .gitignore names in the letters that it is named in, large or small', async () => {
    write('.gitignore', 'Data/\nmodel\n');
    for (const name of ['Data/x', 'data/load.py', 'Model/net.py', 'model']) write(name);
    expect(await names()).toEqual(['.gitignore', 'Model/net.py', 'data/load.py']);
  });

  it('has links to files of its own packed as those files', async () => {
    write('real.py', 'x');
    symlinkSync('real.py', join(folder, 'link.py'));
    const read = await readArchive((await packFolder(folder)).archive);
    expect(read.map(({ name, content }) => [name, content.toString()])).toEqual([
      ['link.py', 'x'],
      ['real.py', 'x'],
    ]);
  });

  it.each([
    [
      'a link out of it',
      () => symlinkSync('/etc/passwd', join(folder, 'data')),
      /"data" is a link that leads out.*\.gitignore/,
    ],
    ['a link to nowhere', () => symlinkSync('nothing', join(folder, 'x')), /"x" is a link that leads nowhere/],
    [
      'a link to a folder',
      () => {
        mkdirSync(join(folder, 'real'));
        symlinkSync('real', join(folder, 'x'));
      },
      /"x" is a link to what is not a regular file/,
    ],
    ['a FIFO', () => execFileSync('mkfifo', [join(folder, 'pipe')]), /"pipe" is neither a file nor a folder/],
    ['a name with a line break', () => write('a\nb'), /"a\\nb" has control characters in its name/],
  ])('with %s is refused', async (_, make, message) => {
    make();
    await expect(packFolder(folder)).rejects.toThrow(message);
  });

  it('that is too large is refused with the names of its largest files and what to do', async () => {
    write('small.py');
    write('data/huge.bin', Buffer.alloc(65 * 1024 * 1024));
    await expect(packFolder(folder)).rejects.toThrow(
      /has 65\.0 MiB, more than 64\.0 MiB; the largest files are "data\/huge\.bin" \(65\.0 MiB\); only code.*name big data by path or URL/,
    );
  });

  it('that is too large when packed is refused', async () => {
    // What cannot be made smaller: the keystream of a cipher.
    const noise = Buffer.alloc(17 * 1024 * 1024);
    let state = 1;
    for (let i = 0; i + 4 <= noise.length; i += 4) {
      state = Math.imul(state, 1664525) + 1013904223;
      noise.writeUInt32LE((state ^ (state >>> 15)) >>> 0, i);
    }
    write('noise.bin', noise);
    await expect(packFolder(folder)).rejects.toThrow(
      /when packed, more than 16\.0 MiB; the largest files are "noise\.bin"/,
    );
  });

  it('that is not there, or whose rules are too long, is refused in one line', async () => {
    await expect(packFolder(join(folder, 'nowhere'))).rejects.toThrow(/^the code cannot be read: ENOENT.*nowhere/);
    write('.gitignore', '#'.repeat(1024 * 1024 + 1));
    await expect(packFolder(folder)).rejects.toThrow(/\.gitignore is larger than 1 MiB/);
  });

  it('with too many files is refused', async () => {
    for (let i = 0; i <= 10_000; i++) writeFileSync(join(folder, String(i)), '');
    await expect(packFolder(folder)).rejects.toThrow(/has 10001 files, more than 10000/);
  });
});
