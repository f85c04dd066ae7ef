/** A folder that only this user may look into. */
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { ConfigError } from '../../shared/config.js';

const PRIVATE = 0o700;

/**
 * Makes it, and makes it private. In a folder that all may write to, such as /tmp, somebody else may have been there first: throws a
 * ConfigError that names the key by which another one is chosen.
 */
export function makePrivate(folder: string, key: string): void {
  mkdirSync(folder, { recursive: true, mode: PRIVATE });
  const facts = lstatSync(folder);
  if (!facts.isDirectory() || facts.uid !== process.getuid?.()) {
    throw new ConfigError(
      `${folder} is not a folder of this user; name another one in the key ${key} of the configuration`,
    );
  }
  chmodSync(folder, PRIVATE);
}
