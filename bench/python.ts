/** The interpreter with PyTorch that set-up chose. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export function chosenPython(): string {
  return process.env['LOCKSTEP_PYTHON'] ?? readFileSync(new URL('../.python', import.meta.url), 'utf8').trim();
}

export function torchVersion(): string {
  return execFileSync(chosenPython(), ['-c', 'import torch; print(torch.__version__)'], { encoding: 'utf8' }).trim();
}
