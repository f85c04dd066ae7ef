/** `npm run audit [-- --registry URL]`: known faults of what ships. Exit status 0: none, 1: some, 2: the registry does not answer audits. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { AUDIT_EXIT, auditOf } from './audit.js';
import { lockedPackages, shippedPaths } from './shipped.js';

const DEADLINE_MS = 120_000;

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const { stdout } = spawnSync('npm', ['audit', '--json', ...process.argv.slice(2)], {
  cwd: repository,
  encoding: 'utf8',
  timeout: DEADLINE_MS,
  stdio: ['ignore', 'pipe', 'ignore'],
});
const { outcome, lines } = auditOf(stdout, shippedPaths(lockedPackages(repository)));
for (const line of lines) process.stdout.write(`${line}\n`);
process.exitCode = AUDIT_EXIT[outcome];
