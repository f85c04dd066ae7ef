/** The credentials of a daemon that does not run: for whoever wants to know before it starts. */
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { type CredentialFiles, credentialFilesIn, readCredentials } from './credential_files.js';
import type { Role } from './identity.js';
import { credentialsFolder, namedIn, type Place } from './open_credentials.js';

/** Of LoadCredential= in the units of deploy/systemd. */
const LOADED_AS = 'tls';

/** Relative paths lead beside the configuration, or else to what the daemon's unit loads from tls/ROLE there. */
export function credentialFilesAtRest(files: CredentialFiles, role: Role, configPath: string): CredentialFiles {
  const folder = dirname(configPath);
  const loaded = loadedFrom(join(folder, LOADED_AS, role));
  const found = (path: string): string => (existsSync(join(folder, path)) ? path : (loaded.get(path) ?? path));
  const { ca, certificate, key } = files;
  return credentialFilesIn({ ca: found(ca), certificate: found(certificate), key: found(key) }, folder);
}

/** Paths by the names that systemd gives the files of a folder. */
function loadedFrom(folder: string): ReadonlyMap<string, string> {
  try {
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    return new Map(files.map((file) => [`${LOADED_AS}_${file.replaceAll('/', '_')}`, join(folder, file)]));
  } catch {
    // Only root may look into it.
    return new Map();
  }
}

/** Where the files are that a configuration names: loaded already, or to be loaded when the daemon starts. */
export function credentialsAt(files: CredentialFiles, role: Role, place: Place): CredentialFiles {
  if (place.credentialsDirectory !== undefined) return credentialFilesIn(files, credentialsFolder(place));
  return credentialFilesAtRest(files, role, place.configPath);
}

export interface Looked {
  /** As the configuration has them. */
  readonly named: CredentialFiles;
  readonly files: CredentialFiles;
  readonly place: Place;
}

/** Why these files cannot be looked at from here, which is not to say that they are no good. */
export function outOfReach(
  which: readonly (keyof CredentialFiles)[],
  { named, files, place }: Looked,
): string | undefined {
  for (const one of which) {
    const problem = accessProblem(files[one]);
    if (problem === 'EACCES') return `${files[one]} may not be read`;
    const isAtRest = place.credentialsDirectory === undefined && !isAbsolute(named[one]);
    if (problem === 'ENOENT' && isAtRest) return `there is no ${files[one]}`;
  }
  return undefined;
}

/** Returns the reason if they cannot be looked at from here. Throws a ConfigError if they are no good. */
export function checkCredentials(
  { tls, name }: { readonly tls: CredentialFiles | undefined; readonly name: string },
  role: Role,
  place: Place,
): string | undefined {
  if (tls === undefined) return undefined;
  const files = credentialsAt(tls, role, place);
  const unseen = outOfReach(['ca', 'certificate', 'key'], { named: tls, files, place });
  if (unseen !== undefined) return unseen;
  namedIn(place.configPath, () => readCredentials(files, { role, name }));
  return undefined;
}

function accessProblem(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK);
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}
