/** The authority's key, which a coordinator needs where machines may join: whether it can be used, and nobody else can. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { ConfigError } from '../../shared/config.js';
import { credentialsAt, outOfReach } from '../../shared/identity/check_credentials.js';
import type { Place } from '../../shared/identity/open_credentials.js';
import type { CoordinatorTls } from '../config.js';

const FOR_EVERYBODY = 0o007;

/** Why the key at this path is not that of the first certificate, or not kept well; undefined if it is. */
export function authorityKeyProblem(certificate: string, path: string): string | undefined {
  try {
    if ((statSync(path).mode & FOR_EVERYBODY) !== 0) return 'may be read or written by everybody: chmod 600';
    const key = createPrivateKey(readFileSync(path, 'utf8'));
    const fits = new X509Certificate(certificate).checkPrivateKey(key);
    return fits ? undefined : 'is not the key of the first certificate in tls.ca';
  } catch (error) {
    return `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Of a daemon that does not run. Returns the reason if it cannot be looked at from here. Throws a ConfigError if it is no good. */
export function checkAuthorityKey(tls: CoordinatorTls | undefined, place: Place): string | undefined {
  if (tls?.caKey === undefined) return undefined;
  const named = { ...tls, key: tls.caKey };
  const files = credentialsAt(named, 'coordinator', place);
  const unseen = outOfReach(['ca', 'key'], { named, files, place });
  if (unseen !== undefined) return unseen;
  const problem = authorityKeyProblem(readFileSync(files.ca, 'utf8'), files.key);
  if (problem === undefined) return undefined;
  throw new ConfigError(`${place.configPath}: tls.ca_key: ${files.key}: ${problem}`);
}
