/** What this machine has: Node, memory, file descriptors, ports. */
import { readFileSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, totalmem } from 'node:os';
import { formatBytes } from '../../shared/text/numbers.js';
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

/** PyTorch's data loaders use it; what Lockstep itself maps has no name there. */
export function checkSharedMemory(folder = '/dev/shm'): Finding {
  try {
    const { bavail, blocks, bsize } = statfsSync(folder);
    const found = `${folder} has ${formatBytes(bavail * bsize)} of ${formatBytes(blocks * bsize)} free`;
    if (bavail * bsize >= SCANT_SHM_BYTES) return ok('shared memory', found);
    const advice = 'a task whose DataLoader has workers may fail; give the container --shm-size, or empty it';
    return warn('shared memory', found, advice);
  } catch (error) {
    return warn('shared memory', reasonOf(error), 'mount a tmpfs on /dev/shm');
  }
}

export function checkMemory(limit = memoryLimit()): Finding {
  const found = `${formatBytes(limit.bytes)} (${limit.from}), ${availableParallelism()} processors`;
  if (limit.bytes < LEAST_MEMORY_BYTES)
    return fail('memory', found, 'PyTorch needs a gigabyte before any model; raise the limit');
  if (limit.bytes < SCANT_MEMORY_BYTES)
    return warn('memory', found, 'enough for small models only; raise the limit for others');
  return ok('memory', found);
}

interface MemoryLimit {
  readonly bytes: number;
  readonly from: string;
}

/** Of the control group, if it has one that is below what the machine has. */
function memoryLimit(): MemoryLimit {
  const group = process.constrainedMemory();
  const machine = totalmem();
  if (group > 0 && group < machine) return { bytes: group, from: 'limit of the control group' };
  return { bytes: machine, from: 'all of the machine' };
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
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return new Promise((done) => {
    const server = createServer();
    server.once('error', (error) => {
      const advice =
        'if it is not this worker that listens there, end what does, or choose another address with the key listen';
      done(fail('port', `${address}: ${error.message}`, advice));
    });
    server.listen(Number(address.slice(colon + 1)), host, () => {
      server.close(() => done(ok('port', `${address} can be listened on`)));
    });
  });
}
