/** The configuration of a coordinator daemon. */
import {
  advertise,
  daemonName,
  type EtcdConfig,
  etcdSection,
  leaseTtlSeconds,
  listen,
  logSection,
  readConfig,
} from '../shared/config.js';
import type { LogLevel } from '../shared/logger.js';
import { flag, labelMap, numberAbove, strictMap, wholeNumber } from '../shared/schema.js';
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

const MOST_WORKERS = 100_000;
const count = wholeNumber(0, MOST_WORKERS);

/** `quota` 0: none. */
const scheduling = strictMap({
  spares: count.default(0),
  quota: count.default(0),
  quotas: labelMap(count, 'numbers of workers').default({}),
  quarantine_after: count.default(5),
}).default({ spares: 0, quota: 0, quotas: {}, quarantine_after: 5 });

const schema = strictMap({
  name: daemonName,
  listen,
  advertise,
  dashboard: dashboardSection,
  etcd: etcdSection,
  lease_ttl_seconds: leaseTtlSeconds.default(3),
  die_with_parent: flag().default(false),
  log: logSection,
  scheduling,
  price_per_worker_hour: numberAbove(0).optional(),
});

/** Throws a ConfigError that names the file and the key. */
export function readCoordinatorConfig(path: string): CoordinatorConfig {
  const file = readConfig(path, schema);
  return Object.freeze({
    name: file.name,
    listen: file.listen,
    advertise: file.advertise,
    dashboard: dashboardConfigOf(file.dashboard),
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
