/** What a machine has to have at least before it is worth a worker, whatever its peers have. */

/** PyTorch takes a quarter of a gigabyte before there is any model. */
export const LEAST_FREE_MEMORY_BYTES = 512 * 1024 * 1024;
/** The code of jobs is at most 16 MiB packed; beside it there have to be room for logs and what tasks write. */
export const LEAST_FREE_DISK_BYTES = 256 * 1024 * 1024;
/** Major and minor version of the oldest PyTorch that the engine is tested with. */
export const OLDEST_TORCH = [1, 13] as const;

export function isOldTorch(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const [oldest, oldestMinor] = OLDEST_TORCH;
  return major < oldest || (major === oldest && minor < oldestMinor);
}
