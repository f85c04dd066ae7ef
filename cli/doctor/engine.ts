/** Whether an engine could run: the interpreter, PyTorch, the GPU, and memory without a name. */
import { execFile } from 'node:child_process';
import { z } from 'zod';
import { type Finding, fail, ok, warn } from './finding.js';

/** A cold disk takes long to read PyTorch. */
const PROBE_MS = 120_000;

/** Says what it could do, step by step, so that what is missing can be named. */
const PROBE = `
import json, os, sys
found = {"python": sys.version.split()[0]}
try:
    os.close(os.memfd_create("lockstep-doctor"))
    found["memfd"] = ""
except (AttributeError, OSError) as error:
    found["memfd"] = str(error)
try:
    import numpy, torch
    found["torch"] = torch.__version__
    found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
except Exception as error:
    found["problem"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
`;

const probed = z.object({
  python: z.string(),
  memfd: z.string(),
  torch: z.string().optional(),
  gpus: z.string().array().default([]),
  problem: z.string().optional(),
});
type Probed = z.output<typeof probed>;

const INSTALL = 'run npm run setup, or name an interpreter that has PyTorch in LOCKSTEP_PYTHON';

export async function checkEngine(python: string): Promise<readonly Finding[]> {
  const outcome = await probe(python);
  if (typeof outcome === 'string') return [fail('python', `${python}: ${outcome}`, INSTALL)];
  const { python: version, memfd } = outcome;
  return [
    ok('python', `${python} is Python ${version}`),
    ...torchFindings(outcome),
    memfd === ''
      ? ok('memory files', 'memfd_create works')
      : fail('memory files', memfd, 'the kernel or a seccomp filter forbids memfd_create; allow it'),
  ];
}

function torchFindings({ torch, gpus, problem }: Probed): readonly Finding[] {
  if (torch === undefined) return [fail('torch', problem ?? 'cannot be imported', INSTALL)];
  if (gpus.length > 0) return [ok('torch', torch), ok('gpu', gpus.join(', '))];
  const advice = 'if this machine has one, look at nvidia-smi, CUDA_VISIBLE_DEVICES and the build of PyTorch';
  return [ok('torch', torch), warn('gpu', 'PyTorch sees none, so engines take the processor', advice)];
}

/** What was found, or why nothing was. */
function probe(python: string): Promise<Probed | string> {
  return new Promise((done) => {
    execFile(python, ['-c', PROBE], { timeout: PROBE_MS }, (error, stdout, stderr) => {
      const last = stdout.trim().split('\n').at(-1) ?? '';
      const parsed = parse(last);
      if (parsed !== undefined) done(parsed);
      else done(stderr.trim().split('\n').at(-1) || error?.message || 'it said nothing that can be understood');
    });
  });
}

function parse(line: string): Probed | undefined {
  try {
    return probed.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
