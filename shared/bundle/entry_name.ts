/** Names of files in an archive: relative, inside, and nothing that a file system or a terminal could take for something else. */
import { BundleError } from './bundle_error.js';

const MAX_NAME_BYTES = 1024;
const MAX_PART_BYTES = 255;
const MAX_PARTS = 32;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that are refused.
const CONTROLS = /[\u0000-\u001f\u007f]/;

/** What is wrong with the name of an entry, or undefined. */
export function problemOfEntryName(name: string): string | undefined {
  if (name === '') return 'has no name';
  if (CONTROLS.test(name)) return 'has control characters in its name';
  // Node shows bytes that are no UTF-8 as this character, and such a file cannot be opened by what is shown.
  if (name.includes('\ufffd')) return 'has a name that is not UTF-8';
  if (name.startsWith('/')) return 'has an absolute name';
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) return `has a name of more than ${MAX_NAME_BYTES} bytes`;
  const parts = name.split('/');
  if (parts.includes('..')) return 'leads out of the folder with ".."';
  if (parts.includes('') || parts.includes('.')) return 'has an empty part, or ".", in its name';
  if (parts.length > MAX_PARTS) return `lies more than ${MAX_PARTS} folders deep`;
  if (parts.some((part) => Buffer.byteLength(part) > MAX_PART_BYTES)) {
    return `has a part of more than ${MAX_PART_BYTES} bytes in its name`;
  }
  return undefined;
}

/** A name as part of an error message: short, on one line, quoted. */
export function shownName(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}

export function refuseEntry(name: string, problem: string): BundleError {
  return new BundleError(`${shownName(name)} ${problem}`);
}
