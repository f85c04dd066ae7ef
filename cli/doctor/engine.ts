/** Whether an engine could run, and how fast: the interpreter, PyTorch, the GPU, and memory without a name. The same as a worker's pre-flight. */
import { isOldTorch, OLDEST_TORCH } from '../../shared/fitness.js';
import { type EngineFound, probeEngine } from '../../worker/io/engine_probe.js';
import { type Finding, fail, ok, warn } from './finding.js';

export interface EngineChecks {
  readonly python: string;
  readonly gpu: number;
  /** A GPU is there, or the configuration offers one. */
  readonly offersGpu: boolean;
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const INSTALL = 'run npm run setup, or name an interpreter that has PyTorch in LOCKSTEP_PYTHON';

export async function checkEngine(checks: EngineChecks): Promise<readonly Finding[]> {
  return engineFindings(checks, await probeEngine(checks));
}

function engineFindings(checks: EngineChecks, found: EngineFound): readonly Finding[] {
  const { python, memfd } = found;
  if (python === '') return [fail('python', `${checks.python}: ${found.failure}`, INSTALL)];
  return [
    ok('python', `${checks.python} is Python ${python}`),
    torchFinding(found),
    ...(found.torch === '' ? [] : [gpuFinding(checks, found), startFinding(found)]),
    memfd === ''
      ? ok('memory files', 'memfd_create works')
      : fail('memory files', memfd, 'the kernel or a seccomp filter forbids memfd_create; allow it'),
  ];
}

function torchFinding({ torch, cuda, failure }: EngineFound): Finding {
  if (torch === '') return fail('torch', failure, INSTALL);
  const found = `${torch}, built ${cuda === '' ? 'without CUDA' : `for CUDA ${cuda}`}`;
  if (isOldTorch(torch))
    return fail('torch', found, `PyTorch ${OLDEST_TORCH.join('.')} or later is needed; ${INSTALL}`);
  return ok('torch', found);
}

function gpuFinding(
  { offersGpu }: EngineChecks,
  { torch, cuda, device, deviceName, gpus, failure }: EngineFound,
): Finding {
  if (device === 'cuda') return ok('gpu', `${deviceName}, of ${gpus}`);
  if (device === '' && failure !== '') return warn('gpu', 'no engine starts, so nothing is known of it', 'see below');
  if (!offersGpu) return warn('gpu', 'none, so engines take the processor', 'fine if this machine has none');
  if (cuda === '')
    return fail(
      'gpu',
      `this worker offers a GPU, and PyTorch ${torch} is built without CUDA`,
      'install a build of PyTorch for CUDA, or set gpus: 0 in the configuration',
    );
  return fail(
    'gpu',
    `this worker offers a GPU, and PyTorch, built for CUDA ${cuda}, sees none`,
    `look at nvidia-smi (the driver may be missing, or too old for CUDA ${cuda}) and at CUDA_VISIBLE_DEVICES, or set gpus: 0`,
  );
}

function startFinding({ device, failure, startMs, matmulGflops }: EngineFound): Finding {
  if (failure !== '')
    return fail('engine', failure, 'an engine fails in the same way; correct the installation of PyTorch');
  const seconds = (startMs / 1000).toFixed(1);
  return ok('engine', `starts in ${seconds} s, computes on ${device} at ${matmulGflops.toPrecision(3)} GFLOP/s`);
}
