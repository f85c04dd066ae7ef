/** What the check of a GPU needs of the machine: an etcd, and a Python whose PyTorch sees the GPU. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { CliError, exitCodes } from '../../cli/exit_codes.js';
import { findPython, NoPyTorchError } from '../../worker/io/python.js';

const PROBE_MS = 60_000;
const PROBE = `
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "device": torch.cuda.get_device_name(0) if cuda else None}))
`;

/** `what` is one line that says what to install. */
function missing(what: string): CliError {
  return new CliError(exitCodes.usage, what);
}

export interface Machine {
  readonly python: string;
  readonly torch: string;
  /** The version that PyTorch was built for; undefined with --cpu. */
  readonly cuda: string | undefined;
  /** The GPU's name, or "CPU". */
  readonly device: string;
  /** For the daemons: one GPU, or none. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const answer = z.object({ torch: z.string(), cuda: z.string().nullable(), device: z.string().nullable() });

export async function findMachine(repository: string, cpu: boolean): Promise<Machine> {
  await checkEtcd();
  const python = await interpreter(repository);
  // All engines share one GPU, also where there are more.
  const [first = '0'] = (process.env['CUDA_VISIBLE_DEVICES'] ?? '0').split(',');
  const environment = { ...process.env, CUDA_VISIBLE_DEVICES: cpu ? '' : first };
  const { torch, cuda, device } = await probe(python, environment);
  if (cpu) return { python, torch, cuda: undefined, device: 'CPU', environment };
  if (cuda === null)
    throw missing(`the PyTorch ${torch} of ${python} has no CUDA; name another Python in LOCKSTEP_PYTHON`);
  if (device === null)
    throw missing(`the PyTorch ${torch} of ${python} sees no GPU; is its driver there (nvidia-smi)?`);
  return { python, torch, cuda, device, environment };
}

async function checkEtcd(): Promise<void> {
  try {
    await promisify(execFile)('etcd', ['--version'], { timeout: PROBE_MS });
  } catch {
    throw missing('there is no etcd on the PATH; run: npm run setup');
  }
}

async function interpreter(repository: string): Promise<string> {
  const chosen = join(repository, 'dist/.python');
  const named =
    process.env['LOCKSTEP_PYTHON'] ?? (existsSync(chosen) ? readFileSync(chosen, 'utf8').trim() : undefined);
  try {
    return await findPython(named);
  } catch (error) {
    throw error instanceof NoPyTorchError ? missing(error.message) : error;
  }
}

async function probe(
  python: string,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<z.output<typeof answer>> {
  try {
    const { stdout } = await promisify(execFile)(python, ['-c', PROBE], { timeout: PROBE_MS, env: environment });
    return answer.parse(JSON.parse(stdout));
  } catch (error) {
    const lines = (error instanceof Error ? error.message : String(error)).trim().split('\n');
    throw missing(`${python} cannot import PyTorch: ${lines.at(-1)}`);
  }
}
