import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { findPython, NoPyTorchError } from '../../../worker/io/python.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-python-'));
afterAll(() => rmSync(folder, { recursive: true }));

function interpreter(name: string, status: number): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\nexit ${status}\n`, { mode: 0o755 });
  return path;
}

it('an interpreter that is named by a relative path is found from the folder of a job, too', async () => {
  const path = interpreter('with_torch', 0);
  expect(await findPython(relative(process.cwd(), path))).toBe(path);
  expect(await findPython(path)).toBe(path);
});

it('one without PyTorch is refused by its name', async () => {
  const path = interpreter('without_torch', 1);
  await expect(findPython(path)).rejects.toThrow(NoPyTorchError);
  await expect(findPython(path)).rejects.toThrow(path);
});
