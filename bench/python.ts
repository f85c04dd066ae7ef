/** The interpreter with PyTorch that set-up chose. */
import { readFileSync } from 'node:fs';

export function chosenPython(): string {
  return process.env['LOCKSTEP_PYTHON'] ?? readFileSync(new URL('../.python', import.meta.url), 'utf8').trim();
}
