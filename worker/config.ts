/** The configuration of a worker daemon. */
import {
  advertise,
  daemonName,
  type EtcdConfig,
  etcdSection,
  leaseTtlSeconds,
  listen,
  logSection,
  openAddresses,
  openToNetwork,
  readConfig,
  tlsSection,
} from '../shared/config.js';
import type { CredentialFiles } from '../shared/identity/credential_files.js';
import type { LogLevel } from '../shared/logger.js';
import { bytesText, flag, labelMap, labelText, objecting, strictMap, textLike, wholeNumber } from '../shared/schema.js';

export interface WorkerConfig {
  /** Stable name, for example "w1". */
  readonly name: string;
  /** host:port of the Peer service; port 0 takes a free one. */
  readonly listen: string;
  /** host:port by which the other workers reach it, where that is not the address it listens on. */
  readonly advertise: string | undefined;
  /** Certificates, without which it only listens where nobody but its own machine can reach it. */
  readonly tls: CredentialFiles | undefined;
  readonly etcd: EtcdConfig;
  /** Lease of its registration: the backstop of failure detection. */
  readonly leaseTtlSeconds: number;
  /** Python interpreter of the engine; undefined takes python3 from PATH. */
  readonly python: string | undefined;
  /** Folder below which the code of jobs is unpacked; undefined takes that of its unit, or a private one below the system's for temporary files. */
  readonly codeDir: string | undefined;
  /** Number of the GPU that the engine takes, counted round those that CUDA shows. Without any, the engine takes the processor. */
  readonly gpu: number;
  /** Whether workers on this host read each other's exchange memory where it is, or send it to each other. */
  readonly sameHost: boolean;
  /** Be killed when the process that started this one dies: for clusters that belong to one command. */
  readonly dieWithParent: boolean;
  readonly log: { readonly level: LogLevel };
  /** By which jobs can ask for this worker. */
  readonly labels: ReadonlyMap<string, string>;
  /** That it offers; undefined: all that the machine has. */
  readonly cpus: number | undefined;
  readonly gpus: number | undefined;
  /** Whether it measures its machine before it gets jobs. */
  readonly preflight: boolean;
  readonly engine: EngineConfig;
}

/** What the user's code may use. See docs/user_code.md. */
export interface EngineConfig {
  /** That engines run as; undefined: this daemon's own. */
  readonly user: string | undefined;
  /** Of an engine, its exchange memory included; undefined: no limit. */
  readonly memoryMaxBytes: number | undefined;
  /** Processes and threads. */
  readonly tasksMax: number;
  /** Largest file that it may write; undefined: no limit. */
  readonly fileMaxBytes: number | undefined;
  /** Folder below which it has one for temporary files; undefined takes that of its unit, or a private one below the system's. */
  readonly scratchDir: string | undefined;
  /** Of its temporary files together; undefined: no limit. */
  readonly scratchMaxBytes: number | undefined;
}

const absolutePath = textLike(/^\/[^\0\n]{1,4095}$/, 'an absolute path');

const engineSection = strictMap({
  user: textLike(/^[a-z_][a-z0-9_-]{0,31}$/, 'the name of a user of this machine').optional(),
  memory_max: bytesText().optional(),
  tasks_max: wholeNumber(16, 4_194_304).default(4096),
  file_max: bytesText().optional(),
  scratch_dir: absolutePath.optional(),
  scratch_max: bytesText().optional(),
}).default({ tasks_max: 4096 });

const schema = strictMap({
  name: daemonName,
  listen,
  advertise,
  tls: tlsSection,
  open_to_network: openToNetwork,
  etcd: etcdSection,
  lease_ttl_seconds: leaseTtlSeconds.default(10),
  python: textLike(/^[^\0\n]{1,4096}$/, 'the path of a Python interpreter').optional(),
  code_dir: absolutePath.optional(),
  gpu: wholeNumber(0, 1023).default(0),
  same_host: flag().default(true),
  die_with_parent: flag().default(false),
  log: logSection,
  labels: labelMap(labelText, 'values').default({}),
  cpus: wholeNumber(1, 4096).optional(),
  gpus: wholeNumber(0, 64).optional(),
  preflight: flag().default(true),
  engine: engineSection,
}).superRefine(objecting((file) => openAddresses(file, { listen: file.listen, advertise: file.advertise })));

/** Throws a ConfigError that names the file and the key. */
export function readWorkerConfig(path: string): WorkerConfig {
  const file = readConfig(path, schema);
  return Object.freeze({
    name: file.name,
    listen: file.listen,
    advertise: file.advertise,
    tls: file.tls === undefined ? undefined : Object.freeze(file.tls),
    etcd: Object.freeze(file.etcd),
    leaseTtlSeconds: file.lease_ttl_seconds,
    python: file.python,
    codeDir: file.code_dir,
    gpu: file.gpu,
    sameHost: file.same_host,
    dieWithParent: file.die_with_parent,
    log: Object.freeze(file.log),
    labels: new Map(Object.entries(file.labels)),
    cpus: file.cpus,
    gpus: file.gpus,
    preflight: file.preflight,
    engine: Object.freeze({
      user: file.engine.user,
      memoryMaxBytes: file.engine.memory_max,
      tasksMax: file.engine.tasks_max,
      fileMaxBytes: file.engine.file_max,
      scratchDir: file.engine.scratch_dir,
      scratchMaxBytes: file.engine.scratch_max,
    }),
  });
}
