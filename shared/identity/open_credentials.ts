/** The credentials that a daemon's configuration names. */
import { dirname } from 'node:path';
import { ConfigError } from '../config.js';
import { CredentialError, type CredentialFiles, credentialFilesIn } from './credential_files.js';
import type { Role } from './identity.js';
import { type CredentialLog, KeptCredentials } from './kept_credentials.js';

export interface Place {
  /** Of the configuration file. */
  readonly configPath: string;
  /** CREDENTIALS_DIRECTORY, where systemd puts what LoadCredential= names. */
  readonly credentialsDirectory: string | undefined;
}

/** Folder that relative paths begin in. */
export function credentialsFolder({ configPath, credentialsDirectory }: Place): string {
  return credentialsDirectory ?? dirname(configPath);
}

/** Says of a CredentialError, as a ConfigError, in which configuration the files are named. */
export function namedIn<T>(configPath: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CredentialError) throw new ConfigError(`${configPath}: tls: ${error.message}`);
    throw error;
  }
}

/** Undefined for a daemon that has none. They must be those of its own role and name. Throws a ConfigError. */
export function openCredentials(
  { tls, name }: { readonly tls: CredentialFiles | undefined; readonly name: string },
  role: Role,
  place: Place,
  log: CredentialLog,
): KeptCredentials | undefined {
  if (tls === undefined) return undefined;
  const files = credentialFilesIn(tls, credentialsFolder(place));
  return namedIn(place.configPath, () => new KeptCredentials({ files, expected: { role, name }, log }));
}
