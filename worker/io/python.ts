/** Finds the Python interpreter whose PyTorch the engine uses. */
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';

const PROBE_MS = 10_000;
/** Looks for torch without importing it, which would take seconds. */
const PROBE = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('torch') else 1)";

export class NoPyTorchError extends Error {
  constructor(tried: readonly string[]) {
    super(
      `no Python interpreter with PyTorch was found (tried ${tried.join(', ')}): run "npm run setup", ` +
        'or name one in LOCKSTEP_PYTHON or in the key python of the worker configuration',
    );
    this.name = 'NoPyTorchError';
  }
}

function hasTorch(python: string): Promise<boolean> {
  return new Promise((resolve) => {
    execFile(python, ['-c', PROBE], { timeout: PROBE_MS }, (error) => resolve(error === null));
  });
}

/** Engines are started in the folder of their code, where a relative path would lead elsewhere. */
function fromAnywhere(python: string): string {
  return python.includes('/') ? resolve(python) : python;
}

/** The named interpreter if there is one, else the first of python3 and the system's that has PyTorch. */
export async function findPython(named: string | undefined): Promise<string> {
  const candidates = named === undefined ? ['python3', '/usr/bin/python3'] : [fromAnywhere(named)];
  for (const python of candidates) if (await hasTorch(python)) return python;
  throw new NoPyTorchError(candidates);
}
