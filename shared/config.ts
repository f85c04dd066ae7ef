/** What the configuration files of the daemons have in common. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { z } from 'zod';
import { isLoopback } from './identity/open_address.js';
import { NAME, NAME_TEXT } from './name.js';
import { check, flag, hostAndPort, oneOf, strictMap, textLike, wholeNumber } from './schema.js';
import { parseYaml, YamlError } from './yaml_text.js';

/** Exit status of a daemon whose configuration is bad: EX_CONFIG of sysexits.h. A supervisor need not start it again. */
export const EXIT_BAD_CONFIG = 78;

/** A configuration file was refused. The message is one line that names the file and the key. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

export interface EtcdConfig {
  readonly endpoints: readonly string[];
  /** Begins with a slash and does not end with one. */
  readonly prefix: string;
}

const nameLike = textLike(NAME, NAME_TEXT);

/** Left out, it is the host name of the machine. */
export const daemonName = nameLike.prefault(() => hostname());

export const listen = hostAndPort().default('127.0.0.1:0');

export const advertise = hostAndPort().optional();

export const DEFAULT_ETCD_PREFIX = '/lockstep';

export const etcdSection = strictMap({
  endpoints: textLike(/^https?:\/\/[A-Za-z0-9[\]:.-]+$/, 'a URL such as http://127.0.0.1:2379')
    .array()
    .min(1, { error: 'must name one endpoint at least' })
    .max(16, { error: 'must name at most 16 endpoints' }),
  prefix: textLike(/^(\/[A-Za-z0-9._-]+){1,8}$/, 'a path such as /lockstep').default(DEFAULT_ETCD_PREFIX),
});

const file = textLike(/^[^\0\n]{1,4096}$/, 'the path of a file');

/** PEM files; see shared/identity/credential_files.ts for where relative paths lead. */
export const tlsFiles = { ca: file, certificate: file, key: file };
export const tlsSection = strictMap(tlsFiles).optional();
export const caKey = file.optional();

/** Of logs that a daemon keeps itself. */
export const logFile = textLike(/^\/[^\0\n]{1,4095}$/, 'an absolute path').optional();

export const openToNetwork = flag().default(false);

interface Reachable {
  readonly tls?: object | undefined;
  readonly open_to_network: boolean;
  readonly etcd: EtcdConfig;
}

/** What a field says that is not allowed, if anything. */
export interface Objection {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** Refuses addresses that others can reach where nobody is asked who he is. `unasked` are those where certificates make no difference. */
export function openAddresses(
  config: Reachable,
  addresses: Readonly<Record<string, string | undefined>>,
  unasked: Readonly<Record<string, string | undefined>> = {},
): readonly Objection[] {
  if (config.open_to_network) return [];
  const withoutTls = config.tls === undefined ? addresses : {};
  const open = Object.entries(withoutTls).filter(([, address]) => address !== undefined && !isLoopback(address));
  const always = Object.entries(unasked).filter(([, address]) => address !== undefined && !isLoopback(address));
  return [
    ...open.map(([key]) => ({
      path: [key],
      message: 'must be a loopback address such as 127.0.0.1 while there is no tls section (docs/security.md)',
    })),
    ...always.map(([key]) => ({
      path: [key],
      message:
        'must be a loopback address such as 127.0.0.1: certificates do not protect it; or a section with tokens or a proxy (docs/dashboard.md)',
    })),
    ...(config.tls === undefined ? [] : plainEtcd(config.etcd)),
  ];
}

function plainEtcd({ endpoints }: EtcdConfig): readonly Objection[] {
  const isPlain = (endpoint: string): boolean => endpoint.startsWith('http:');
  const open = endpoints.find((endpoint) => isPlain(endpoint) && !isLoopback(endpoint.slice('http://'.length)));
  if (open === undefined) return [];
  return [{ path: ['etcd', 'endpoints'], message: `must begin with https:// because there is a tls section: ${open}` }];
}

/** etcd grants at least 2 s, whatever is asked for. */
export const leaseTtlSeconds = wholeNumber(1, 600);

export const logSection = strictMap({ level: oneOf(['error', 'warn', 'info', 'debug']).default('info') }).default({
  level: 'info',
});

/** Reads and checks a configuration file. Throws a ConfigError. */
export function readConfig<S extends z.ZodType>(path: string, schema: S): z.output<S> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const yaml = parseYaml(text);
    const checked = check(schema, yaml.root);
    if ('value' in checked) return checked.value;
    const { field, problem } = checked.problem;
    throw new YamlError(problem, field, yaml.lineOf(field));
  } catch (error) {
    if (!(error instanceof YamlError)) throw error;
    const where = error.line === undefined ? path : `${path}:${error.line}`;
    throw new ConfigError(`${where}: ${error.message}`);
  }
}
