/** What the configuration files of the daemons have in common. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { z } from 'zod';
import { check, hostAndPort, oneOf, strictMap, textLike, wholeNumber } from './schema.js';
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

const nameLike = textLike(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
  "1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
);

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
