/** The files of the page, read once: nothing that a request says becomes a path. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface PageFile {
  readonly bytes: Buffer;
  readonly type: string;
  readonly etag: string;
}

const FILES: readonly (readonly [name: string, type: string])[] = [
  ['index.html', 'text/html; charset=utf-8'],
  ['main.js', 'text/javascript; charset=utf-8'],
  ['style.css', 'text/css; charset=utf-8'],
  ['favicon.svg', 'image/svg+xml'],
];

/** By the path in the URL. `folder` is dist/dashboard; a file that is missing there was not built. */
export function readPageFiles(folder: string): ReadonlyMap<string, PageFile> {
  const files = FILES.map(([name, type]) => {
    const bytes = readFileSync(join(folder, name));
    const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
    return [name === 'index.html' ? '/' : `/${name}`, { bytes, type, etag }] as const;
  });
  return new Map(files);
}
