/** Where the engine's Python lies, and what it is started with. */
import { fileURLToPath } from 'node:url';

/** What of the daemon's environment an engine sees: enough to find programs, files and devices. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'CUDA_VISIBLE_DEVICES',
  // Decides what the numbers in CUDA_VISIBLE_DEVICES mean.
  'CUDA_DEVICE_ORDER',
  'CUDA_MPS_PIPE_DIRECTORY',
  'CUDA_HOME',
  'NVIDIA_VISIBLE_DEVICES',
];

export function passedOn(environment: Readonly<Record<string, string | undefined>>): Readonly<Record<string, string>> {
  const passed = PASSED_ON.flatMap((name) => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(passed);
}

/** engine/ lies beside dist/, or beside worker/ when run from source. */
export function engineFolder(): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  return import.meta.url.endsWith('.ts') ? `${here}../../engine` : `${here}../../../engine`;
}

/**
 * Gradients are new memory in every step. By default the C library gives the memory of the last ones back to the kernel, which then
 * clears it for the next, page by page: a fifth of a step. Here it is kept, in large pages where the kernel has them.
 */
const MALLOC =
  'glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.hugetlb=1';

/** `environment` is what was passed on of the daemon's. */
export function engineEnvironment(
  environment: Readonly<Record<string, string>>,
  threads: number,
): Readonly<Record<string, string>> {
  const count = String(threads);
  return {
    ...environment,
    PYTHONPATH: engineFolder(),
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
    // Sets and dictionaries of strings must have the same order in every engine.
    PYTHONHASHSEED: '0',
    GLIBC_TUNABLES: MALLOC,
    OMP_NUM_THREADS: count,
    OPENBLAS_NUM_THREADS: count,
    MKL_NUM_THREADS: count,
  };
}
