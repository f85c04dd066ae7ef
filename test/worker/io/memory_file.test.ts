import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { MemoryFile, MemoryFileError, MemoryFileTooShortError } from '../../../worker/io/memory_file.js';
import { ensureBuilt, repository } from '../built_threads.js';

beforeAll(ensureBuilt);

describe('a memory file', () => {
  it('shows in a mapping what a child process wrote, and the child what the mapping holds', () => {
    const file = MemoryFile.create('test');
    file.grow(8192);
    const view = file.map(4096, 4096).bytes(0, 16);
    view.write('from us');
    const script = `
import mmap
memory = mmap.mmap(3, 0)
assert memory[4096:4103] == b'from us'
memory[4104:4112] = b'from it!'`;
    const child = spawnSync('python3', ['-c', script], { stdio: ['ignore', 'inherit', 'inherit', file.fd] });
    expect(child.status).toBe(0);
    expect(view.toString('latin1', 8, 16)).toBe('from it!');
    file.close();
  });

  it('is not inherited by a child that it was not given to', () => {
    const file = MemoryFile.create('secret');
    const child = spawnSync('sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'utf8' });
    expect(child.stdout).not.toContain('secret');
    file.close();
  });

  it('keeps what is mapped when it grows', () => {
    const file = MemoryFile.create('test');
    file.grow(4096);
    const before = file.map(0, 4096).floats(0, 4);
    before[1] = 1.5;
    file.grow(4096 * 1000);
    file.grow(4096);
    expect(file.size()).toBe(4096 * 1000);
    before[2] = 2.5;
    expect([...file.map(0, 4096).floats(0, 4)]).toEqual([0, 1.5, 2.5, 0]);
    file.close();
  });

  it('leaves zeros behind a view when its memory was released, instead of a crash', () => {
    const file = MemoryFile.create('test');
    file.grow(4096);
    const view = file.map(0, 4096).bytes(0, 8);
    view.fill(1);
    file.close();
    expect([...view]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    view.fill(2);
  });

  it('refuses to map beyond its end, naming the sizes', () => {
    const file = MemoryFile.create('test');
    file.grow(4096);
    expect(() => file.map(4096, 4096)).toThrow(new MemoryFileTooShortError(file.fd, 4096, 8192));
    file.close();
  });

  it('refuses a view outside its region', () => {
    const file = MemoryFile.create('test');
    file.grow(8192);
    const region = file.map(0, 4096);
    expect(() => region.bytes(4000, 100)).toThrow(RangeError);
    expect(() => region.floats(4096, 1)).toThrow(RangeError);
    file.close();
  });

  it('names the call and the error number when the kernel refuses', () => {
    const fd = openSync('/dev/null', 'r');
    expect(() => MemoryFile.borrow(fd).grow(4096)).toThrow(MemoryFileError);
    expect(() => MemoryFile.borrow(fd).grow(4096)).toThrow(/ftruncate failed with errno 22/);
    closeSync(fd);
  });

  it('closes its own descriptor and never a borrowed one', () => {
    const file = MemoryFile.create('test');
    MemoryFile.borrow(file.fd).close();
    expect(fstatSync(file.fd).size).toBe(0);
    file.close();
    expect(() => fstatSync(file.fd)).toThrow('EBADF');
  });

  it('gives its address space back when the last view of a closed file is collected', () => {
    const script = `
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { MemoryFile } from '${repository}dist/worker/io/memory_file.js';
const gibibytes = () => (Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0]) * 4096) / 2 ** 30;
const file = MemoryFile.create('collected');
file.grow(2 ** 26);
const before = gibibytes();
for (let i = 0; i < 64; i++) file.map(0, 2 ** 26).bytes(0, 4).fill(1);
const mapped = gibibytes() - before;
file.close();
for (let i = 0; i < 50 && gibibytes() - before > 1; i++) { gc(); await setImmediate(); }
console.log(mapped > 3.5, gibibytes() - before < 1);`;
    const child = spawnSync('node', ['--expose-gc', '--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(child.stdout.trim()).toBe('true true');
  });
});
