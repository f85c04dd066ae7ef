/** The real npm, and a registry here that answers audits as it is told to. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, expect, it } from 'vitest';
import { z } from 'zod';
import { repository } from '../system/run_lockstep.js';
import { auditOf } from './audit.js';
import { lockedPackages, shippedPaths } from './shipped.js';

const shipped = shippedPaths(lockedPackages(repository));
const asked = z.record(z.string(), z.array(z.string()));
let server: Server | undefined;
afterEach(() => server?.close());

/** A registry that knows a fault of all versions of these packages; undefined: one that answers no audits. */
async function registryWith(faulty: readonly string[] | undefined): Promise<string> {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (request.method !== 'POST' || faulty === undefined) {
        response.writeHead(request.method === 'POST' ? 405 : 404).end();
        return;
      }
      const body = Buffer.concat(chunks);
      const names = Object.keys(asked.parse(JSON.parse(gunzipSync(body).toString())));
      const answer = names.filter((name) => faulty.includes(name)).map((name) => [name, [advisoryOf(name)]]);
      response.end(JSON.stringify(Object.fromEntries(answer)));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
}

function advisoryOf(name: string) {
  const url = `https://advisories.example/${name}`;
  return { id: 1, url, title: 'is faulty', severity: 'high', vulnerable_versions: '*', cwe: [], cvss: { score: 0 } };
}

function npmAudit(registry: string): Promise<{ readonly code: number; readonly text: string }> {
  const main = join(repository, 'dist/test/dependencies/audit_main.js');
  return new Promise((resolve) => {
    const child = execFile('node', [main, '--registry', registry, '--fetch-retries=0'], (_error, text) =>
      resolve({ code: child.exitCode ?? -1, text }),
    );
  });
}

it.each([
  ['knows nothing', [], 0, /^nothing known of the \d+ that ship\n$/],
  ['knows a fault of ws', ['ws'], 1, /^ws \*: high: is faulty https:\/\/advisories\.example\/ws\n$/],
  ['knows a fault of what is built into the page', ['preact'], 1, /^preact /],
  ['knows a fault of what only tests need', ['fast-check'], 0, /^nothing known/],
  ['answers no audits', undefined, 2, /^this registry does not answer audits: nothing is known \(405 /],
])('npm run audit says of a registry that %s', async (_what, faulty, code, text) => {
  const audit = await npmAudit(await registryWith(faulty));
  expect(audit.text).toMatch(text);
  expect(audit.code).toBe(code);
});

it.each(['', 'npm warn', '{}', '{"vulnerabilities":[]}'])('%j is no clean audit', (output) => {
  expect(auditOf(output, shipped).outcome).toBe('unanswered');
});
