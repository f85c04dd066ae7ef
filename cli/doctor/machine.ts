/** What this machine has: Node, memory, disk, file descriptors, ports. */
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { bareHostOf, portOf } from '../../shared/address.js';
import { LEAST_FREE_DISK_BYTES, LEAST_FREE_MEMORY_BYTES } from '../../shared/fitness.js';
import { formatBytes } from '../../shared/text/numbers.js';
import { type DiskFound, probeDisk } from '../../worker/io/disk_probe.js';
import { findMemory } from '../../worker/io/memory.js';
import { type Finding, fail, ok, reasonOf, warn } from './finding.js';

const OLDEST_NODE = [20, 15] as const;
const SCANT_SHM_BYTES = 256 * 1024 * 1024;
const LEAST_MEMORY_BYTES = 1024 ** 3;
const SCANT_MEMORY_BYTES = 2 * 1024 ** 3;
const LEAST_FILES = 512;
const SCANT_FILES = 4096;

export function checkNode(version = process.versions.node): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldest, oldestMinor] = OLDEST_NODE;
  if (major > oldest || (major === oldest && minor >= oldestMinor)) return ok('node', `Node.js ${version}`);
  return fail('node', `Node.js ${version}`, `install Node.js ${oldest}.${oldestMinor} or later`);
}

export function checkSharedMemory(folder = '/dev/shm'): Finding {
  try {
    const { bavail, blocks, bsize } = statfsSync(folder);
    return sharedMemoryFinding(folder, bavail * bsize, blocks * bsize);
  } catch (error) {
    return warn('shared memory', reasonOf(error), 'mount a tmpfs on /dev/shm');
  }
}

/** PyTorch's data loaders use it; what Lockstep itself maps has no name there. */
export function sharedMemoryFinding(folder: string, freeBytes: number, bytes: number): Finding {
  const found = `${folder} has ${formatBytes(freeBytes)} of ${formatBytes(bytes)} free`;
  if (freeBytes >= SCANT_SHM_BYTES) return ok('shared memory', found);
  const isSmall = bytes < SCANT_SHM_BYTES;
  const remedy = isSmall ? 'mount it larger, or give the container --shm-size=1g' : `empty it: ls -l ${folder}`;
  return warn('shared memory', found, `a task whose DataLoader has workers may fail with a bus error; ${remedy}`);
}

export function checkMemory({ limitBytes, from, freeBytes } = findMemory()): Finding {
  const found = `${formatBytes(limitBytes)} (${from}), ${formatBytes(freeBytes)} free, ${availableParallelism()} processors`;
  if (limitBytes < LEAST_MEMORY_BYTES)
    return fail('memory', found, 'PyTorch needs a gigabyte before any model; raise the limit');
  if (freeBytes < LEAST_FREE_MEMORY_BYTES)
    return fail('memory', found, 'others use it, so an engine would be killed; see who with ps --sort -rss');
  if (limitBytes < SCANT_MEMORY_BYTES)
    return warn('memory', found, 'enough for small models only; raise the limit for others');
  return ok('memory', found);
}

/** `folder` is where the code of jobs is unpacked; what is not there yet is made by the worker. */
export async function checkDisk(folder: string): Promise<Finding> {
  return diskFinding(await probeDisk(existing(folder)));
}

export function diskFinding({ folder, problem, freeBytes, bytesPerSecond }: DiskFound): Finding {
  const elsewhere = 'or name another folder in the key code_dir of the configuration';
  if (problem !== '') return fail('disk', problem, `make ${folder} writable, ${elsewhere}`);
  const found = `${folder} has ${formatBytes(freeBytes)} free, and is written at ${formatBytes(bytesPerSecond)}/s`;
  if (freeBytes < LEAST_FREE_DISK_BYTES) return fail('disk', found, `make room for the code of jobs, ${elsewhere}`);
  return ok('disk', found);
}

function existing(folder: string): string {
  return existsSync(folder) || dirname(folder) === folder ? folder : existing(dirname(folder));
}

export function checkOpenFiles(limits = readFileSync('/proc/self/limits', 'utf8')): Finding {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(limits)?.[1] ?? '0';
  const count = soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
  const advice = 'raise it: LimitNOFILE=65536 in the systemd unit, or ulimit -n 65536';
  if (count < LEAST_FILES) return fail('open files', `at most ${soft}`, advice);
  if (count < SCANT_FILES) return warn('open files', `at most ${soft}`, `enough for some dozen peers; ${advice}`);
  return ok('open files', `at most ${soft}`);
}

/** `address` is host:port; port 0 is always free. */
export function checkPort(address: string): Promise<Finding> {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', (error) => done(fail('port', `${address}: ${error.message}`, portAdvice(error))));
    server.listen(portOf(address), bareHostOf(address), () => {
      server.close(() => done(ok('port', `${address} can be listened on`)));
    });
  });
}

const OTHER_ADDRESS = 'choose another address with the key listen';

function portAdvice(error: Error): string {
  switch ('code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return `if it is not this worker that listens there, end what does, or ${OTHER_ADDRESS}`;
    case 'EADDRNOTAVAIL':
      return `this machine has no such address (ip address lists those that it has); ${OTHER_ADDRESS}`;
    case 'EACCES':
      return `ports below 1024 are for root; ${OTHER_ADDRESS}`;
    default:
      return OTHER_ADDRESS;
  }
}
