/** `npm run docs:dependencies`: puts what ships into docs/dependencies.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockedPackages, withShipped } from './shipped.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const path = join(repository, 'docs/dependencies.md');
writeFileSync(path, withShipped(readFileSync(path, 'utf8'), lockedPackages(repository)));
