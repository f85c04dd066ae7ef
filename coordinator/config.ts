/** The configuration of a coordinator daemon. */
import { dirname } from 'node:path';
import type { z } from 'zod';
import {
  advertise,
  caKey,
  daemonName,
  type EtcdConfig,
  etcdSection,
  leaseTtlSeconds,
  listen,
  logFile,
  logSection,
  type Objection,
  openAddresses,
  openToNetwork,
  readConfig,
  tlsFiles,
} from '../shared/config.js';
import type { CredentialFiles } from '../shared/identity/credential_files.js';
import type { LogLevel } from '../shared/logger.js';
import { flag, hostAndPort, labelMap, numberAbove, objecting, strictMap, wholeNumber } from '../shared/schema.js';
import type { SchedulingSettings } from './core/state.js';
import { type DashboardConfig, dashboardConfigOf, dashboardSection } from './web/dashboard_config.js';

export interface CoordinatorConfig {
  /** Stable name, for example "c1". */
  readonly name: string;
  /** host:port of the gRPC services; port 0 takes a free one. */
  readonly listen: string;
  /** host:port by which others reach it, where that is not the address it listens on. */
  readonly advertise: string | undefined;
  /** The dashboard and /metrics; without it there is none. */
  readonly dashboard: DashboardConfig | undefined;
  /** Certificates, without which it only listens where nobody but its own machine can reach it. */
  readonly tls: CoordinatorTls | undefined;
  /** host:port where new workers come with a token for their first certificate. */
  readonly joinListen: string | undefined;
  /** File for the audit log, beside stdout. */
  readonly auditLog: string | undefined;
  readonly etcd: EtcdConfig;
  /** Lease of its registration and of its leadership. */
  readonly leaseTtlSeconds: number;
  /** Be killed when the process that started this one dies: for clusters that belong to one command. */
  readonly dieWithParent: boolean;
  readonly log: { readonly level: LogLevel };
  readonly scheduling: SchedulingSettings;
  /** In whatever currency; 0: unknown. */
  readonly pricePerWorkerHour: number;
}

export interface CoordinatorTls extends CredentialFiles {
  /** Key of the authority, for certificates of new workers. */
  readonly caKey: string | undefined;
}

const MOST_WORKERS = 100_000;
const count = wholeNumber(0, MOST_WORKERS);

/** `quota` 0: none. */
const scheduling = strictMap({
  spares: count.default(0),
  quota: count.default(0),
  quotas: labelMap(count, 'numbers of workers').default({}),
  quarantine_after: count.default(5),
}).default({ spares: 0, quota: 0, quotas: {}, quarantine_after: 5 });

const fields = strictMap({
  name: daemonName,
  listen,
  advertise,
  dashboard: dashboardSection,
  tls: strictMap({ ...tlsFiles, ca_key: caKey }).optional(),
  join_listen: hostAndPort().optional(),
  open_to_network: openToNetwork,
  audit_log: logFile,
  etcd: etcdSection,
  lease_ttl_seconds: leaseTtlSeconds.default(3),
  die_with_parent: flag().default(false),
  log: logSection,
  scheduling,
  price_per_worker_hour: numberAbove(0).optional(),
});

type Fields = z.output<typeof fields>;

function objectionsTo(file: Fields): readonly Objection[] {
  const { listen, advertise, dashboard } = file;
  const joining =
    file.join_listen === undefined || file.tls?.ca_key !== undefined
      ? []
      : [{ path: ['join_listen'], message: "needs tls.ca_key, the authority's key, to make certificates" }];
  const { tokens, proxy } = dashboard ?? {};
  const needsHeader = proxy !== undefined && (tokens === undefined || proxy.role_header !== undefined);
  const unnamed =
    proxy?.header === undefined && needsHeader
      ? [{ path: ['dashboard', 'proxy', 'header'], message: 'is missing: the header in which the proxy names people' }]
      : [];
  // Whoever has to log in may come from elsewhere.
  const open = tokens === undefined && proxy === undefined ? dashboard?.listen : undefined;
  return [...joining, ...unnamed, ...openAddresses(file, { listen, advertise }, { dashboard: open })];
}

function tlsOf({ tls }: Fields): CoordinatorTls | undefined {
  if (tls === undefined) return undefined;
  const { ca_key: caKey, ...files } = tls;
  return Object.freeze({ ...files, caKey });
}

const schema = fields.superRefine(objecting(objectionsTo));

/** Throws a ConfigError that names the file and the key. */
export function readCoordinatorConfig(path: string): CoordinatorConfig {
  const file = readConfig(path, schema);
  return Object.freeze({
    name: file.name,
    listen: file.listen,
    advertise: file.advertise,
    dashboard: dashboardConfigOf(file.dashboard, dirname(path)),
    tls: tlsOf(file),
    joinListen: file.join_listen,
    auditLog: file.audit_log,
    etcd: Object.freeze(file.etcd),
    leaseTtlSeconds: file.lease_ttl_seconds,
    dieWithParent: file.die_with_parent,
    log: Object.freeze(file.log),
    pricePerWorkerHour: file.price_per_worker_hour ?? 0,
    scheduling: Object.freeze({
      spares: file.scheduling.spares,
      quota: file.scheduling.quota === 0 ? Number.POSITIVE_INFINITY : file.scheduling.quota,
      quotas: new Map(Object.entries(file.scheduling.quotas)),
      quarantineAfter: file.scheduling.quarantine_after,
    }),
  });
}
