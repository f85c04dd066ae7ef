/** Who is let in, and as what: tokens, the cookie, a proxy's word, and what is refused. */
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import type { AuditEntry } from '../../../coordinator/io/audit_log.js';
import { Dashboard } from '../../../coordinator/web/dashboard.js';
import type { DashboardConfig } from '../../../coordinator/web/dashboard_config.js';
import { lineOfHolder, newToken, sha256OfToken } from '../../../shared/bearer_token.js';
import { createLogger } from '../../../shared/logger.js';
import type { UserRole } from '../../../shared/role.js';
import { freePort } from '../../etcd_server.js';
import { leadingState } from './known_jobs.js';

let folder = '';
let dashboard: Dashboard | undefined;
let port = 0;
const logged: AuditEntry[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-login-'));
  for (const name of ['index.html', 'main.js', 'style.css', 'favicon.svg']) writeFileSync(join(folder, name), name);
  logged.length = 0;
});

afterEach(() => {
  dashboard?.close();
  dashboard = undefined;
  rmSync(folder, { recursive: true, force: true });
});

async function start(config: Partial<DashboardConfig>, host = '127.0.0.1'): Promise<void> {
  port = await freePort();
  const listen = `${host}:${port}`;
  const log = createLogger('coordinator', 'c1', 'error');
  dashboard = await Dashboard.start({
    name: 'c1',
    config: { listen, hosts: [], origins: [], tokens: undefined, proxy: undefined, ...config },
    pages: folder,
    state: leadingState(),
    dispatch: () => undefined,
    leader: () => null,
    etcdAnswers: async () => true,
    audit: { record: (entry) => void logged.push(entry), objection: undefined },
    log,
  });
}

/** The tokens of these people, in the file. */
function tokensOf(people: Readonly<Record<string, UserRole>>): Readonly<Record<string, string>> {
  const tokens = Object.fromEntries(Object.keys(people).map((name) => [name, newToken()]));
  const lines = Object.entries(people).map(([name, role]) =>
    lineOfHolder({ name, role, sha256: sha256OfToken(tokens[name] ?? '') ?? '' }),
  );
  writeFileSync(join(folder, 'tokens'), `${lines.join('\n')}\n`, { mode: 0o600 });
  return tokens;
}

const tokensFile = (): string => join(folder, 'tokens');
const url = (): string => `http://127.0.0.1:${port}`;
const bearer = (token = ''): Record<string, string> => ({ authorization: `Bearer ${token}` });

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

interface Asked {
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
  readonly body?: string;
}

function ask(path: string, { headers = {}, method = 'GET', body = '' }: Asked = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(`${url()}${path}`, { method, headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += String(chunk);
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

const logIn = (token = '', headers: Readonly<Record<string, string>> = { origin: url() }): Promise<Answer> =>
  ask('/login', { method: 'POST', body: token, headers });

async function visitor(headers: Readonly<Record<string, string>> = {}): Promise<unknown> {
  return JSON.parse((await ask('/who', { headers })).body).visitor;
}

async function liveStatus(headers: Readonly<Record<string, string>> = {}): Promise<string> {
  const socket = new WebSocket(`${url().replace('http', 'ws')}/live`, { headers: { origin: url(), ...headers } });
  const [what] = await Promise.race([once(socket, 'open').then(() => ['open']), once(socket, 'error')]);
  socket.on('error', () => undefined);
  socket.terminate();
  return /\d{3}/.exec(String(what))?.[0] ?? String(what);
}

describe('where there are tokens', () => {
  it('nobody looks without one, but the page itself and the probes are there', async () => {
    tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile() });
    for (const path of ['/metrics', '/token']) {
      const { status, headers } = await ask(path);
      expect([status, headers['www-authenticate']]).toEqual([401, 'Bearer']);
    }
    expect(await liveStatus()).toBe('401');
    for (const path of ['/', '/main.js', '/healthz', '/readyz']) expect((await ask(path)).status).toBe(200);
    expect(JSON.parse((await ask('/who')).body)).toEqual({
      visitor: null,
      takesTokens: true,
      reason: 'a token is needed',
    });
  });

  it('a token lets in its holder, with the role that the file says', async () => {
    const tokens = tokensOf({ ada: 'admin', bob: 'viewer' });
    await start({ tokens: tokensFile() });
    expect(await visitor(bearer(tokens['ada']))).toEqual({ name: 'ada', role: 'admin', loggedIn: false });
    expect(await visitor(bearer(tokens['bob']))).toEqual({ name: 'bob', role: 'viewer', loggedIn: false });
    expect((await ask('/metrics', { headers: bearer(tokens['bob']) })).status).toBe(200);
    expect(await liveStatus(bearer(tokens['bob']))).toBe('open');
  });

  it('a token in the address is nothing', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile() });
    expect((await ask(`/metrics?token=${tokens['ada']}`)).status).toBe(401);
  });

  it.each(['', 'Bearer', 'Bearer x', `Basic ${'a'.repeat(20)}`, `Bearer ${'a'.repeat(1000)}`])(
    'Authorization: %s is refused',
    async (authorization) => {
      tokensOf({ ada: 'admin' });
      await start({ tokens: tokensFile() });
      expect((await ask('/metrics', { headers: { authorization } })).status).toBe(401);
    },
  );

  it('the page exchanges it for a cookie that scripts cannot read and other sites cannot send', async () => {
    const tokens = tokensOf({ ada: 'submitter' });
    await start({ tokens: tokensFile() });
    const { status, headers, body } = await logIn(tokens['ada']);
    expect(status).toBe(200);
    expect(body).not.toContain(tokens['ada']);
    const [set = ''] = headers['set-cookie'] ?? [];
    expect(set).toMatch(/^lockstep_\d+=[^;]+; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/);
    expect(set).not.toContain(tokens['ada']);
    const cookie = set.split(';')[0] ?? '';
    expect(await visitor({ cookie })).toEqual({ name: 'ada', role: 'submitter', loggedIn: true });
    expect(await liveStatus({ cookie })).toBe('open');
    expect(await liveStatus({ cookie, origin: 'http://evil.example' })).toBe('403');
    for (const wrong of [`${cookie}x`, cookie.replace('.', 'x.'), cookie.replace(/\d{10}/, '9999999999')]) {
      expect(await visitor({ cookie: wrong })).toBeNull();
    }
    const out = await ask('/logout', { method: 'POST', headers: { cookie, origin: url() } });
    expect(out.headers['set-cookie']?.[0]).toMatch(/^lockstep_\d+=; Path=\/; Max-Age=0;/);
    expect(logged).toEqual([
      { who: 'submitter ada', from: '127.0.0.1', call: 'dashboard log in', on: {}, outcome: 'OK' },
    ]);
  });

  it('a login that does not say where it comes from, or comes from elsewhere, is refused', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile() });
    expect((await logIn(tokens['ada'], {})).status).toBe(403);
    expect((await logIn(tokens['ada'], { origin: 'http://evil.example' })).status).toBe(403);
    expect((await logIn(tokens['ada'], { origin: url(), host: 'evil.example' })).status).toBe(403);
    expect((await logIn('x'.repeat(2000))).status).toBe(413);
  });

  it('whoever names ten wrong ones waits, also with a right one; who is in stays in', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile() });
    const cookie = (await logIn(tokens['ada'])).headers['set-cookie']?.[0]?.split(';')[0] ?? '';
    for (let tries = 0; tries < 10; tries++) expect((await logIn('wrong')).status).toBe(401);
    const refused = await logIn(tokens['ada']);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await ask('/metrics', { headers: bearer(tokens['ada']) })).status).toBe(429);
    expect((await ask('/metrics', { headers: { cookie } })).status).toBe(200);
    expect(logged.filter((one) => one.reason === 'this token is not known')).toHaveLength(10);
  });

  it('whoever is taken out of the file is out', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile() });
    const cookie = (await logIn(tokens['ada'])).headers['set-cookie']?.[0]?.split(';')[0] ?? '';
    expect((await ask('/metrics', { headers: { cookie } })).status).toBe(200);
    tokensOf({ bob: 'admin' });
    await vi.waitFor(async () => expect((await ask('/metrics', { headers: { cookie } })).status).toBe(401), 5_000);
    expect((await ask('/metrics', { headers: bearer(tokens['ada']) })).status).toBe(401);
  });

  it.each([
    ['is not there', () => undefined, 'ENOENT'],
    ['says what is no token', () => writeFileSync(tokensFile(), 'ada\n'), 'line 1: must be NAME ROLE SHA256'],
    ['is too long', () => writeFileSync(tokensFile(), '#'.repeat(300_000)), 'is longer than 262144 bytes'],
    [
      'anybody may write',
      () => {
        writeFileSync(tokensFile(), '');
        chmodSync(tokensFile(), 0o666);
      },
      'may be written by everybody',
    ],
  ])('there is no dashboard when the file %s', async (_what, make, problem) => {
    make();
    await expect(start({ tokens: tokensFile() })).rejects.toThrow(`${tokensFile()}: `);
    await expect(start({ tokens: tokensFile() })).rejects.toThrow(problem);
  });
});

describe('behind a proxy that lets people in', () => {
  const proxy = { header: 'x-forwarded-user', roleHeader: 'x-forwarded-role', from: ['127.0.0.1'] };

  it('its word is taken, and who has no role looks', async () => {
    await start({ proxy });
    expect(await visitor({ 'x-forwarded-user': 'ada@lab.example', 'x-forwarded-role': 'admin' })).toEqual({
      name: 'ada@lab.example',
      role: 'admin',
      loggedIn: false,
    });
    expect(await visitor({ 'x-forwarded-user': 'ada' })).toMatchObject({ role: 'viewer' });
    expect(await visitor({ 'x-forwarded-user': 'ada', 'x-forwarded-role': 'root' })).toMatchObject({ role: 'viewer' });
    expect(await liveStatus({ 'x-forwarded-user': 'ada' })).toBe('open');
  });

  it('nobody else is let in', async () => {
    await start({ proxy });
    expect(await liveStatus()).toBe('401');
    expect((await ask('/metrics')).body).toBe('the proxy in front has named nobody\n');
    for (const name of ['', 'a, b', 'a b', '<b>', 'x'.repeat(200)]) {
      expect((await ask('/metrics', { headers: { 'x-forwarded-user': name } })).status).toBe(403);
    }
  });

  it('what is no token here fills no audit log, however often it is shown', async () => {
    await start({ proxy: { ...proxy, from: ['10.0.0.0/8'] } });
    for (let tries = 0; tries < 20; tries++) {
      expect((await ask('/metrics', { headers: bearer('wrong') })).status).toBe(401);
    }
    expect(logged).toEqual([]);
  });

  it('the same headers from elsewhere are nothing', async () => {
    await start({ proxy: { ...proxy, from: ['10.0.0.0/8', 'fd00::/8'] } });
    expect(await visitor({ 'x-forwarded-user': 'ada', 'x-forwarded-role': 'admin' })).toBeNull();
    expect((await ask('/login', { method: 'POST', body: 'x', headers: { origin: url() } })).status).toBe(404);
  });

  it('each client has wrong tokens of its own, whatever it puts before what the proxy says', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile(), proxy: { header: undefined, roleHeader: undefined, from: ['127.0.0.1'] } });
    const from = (forwarded: string) => ({ origin: url(), 'x-forwarded-for': forwarded });
    for (let tries = 0; tries < 10; tries++) {
      expect((await logIn('wrong', from(`10.0.0.${tries}, 203.0.113.7`))).status).toBe(401);
    }
    expect((await logIn(tokens['ada'], from('203.0.113.7'))).status).toBe(429);
    expect((await logIn(tokens['ada'], from('10.0.0.1, 203.0.113.7'))).status).toBe(429);
    const bearing = { ...bearer(tokens['ada']), 'x-forwarded-for': '203.0.113.7' };
    expect((await ask('/metrics', { headers: bearing })).status).toBe(429);
    expect((await logIn(tokens['ada'], from('203.0.113.8'))).status).toBe(200);
    expect(logged.map((one) => one.from)).toEqual([...Array<string>(10).fill('203.0.113.7'), '203.0.113.8']);
  });

  it('what somebody says who is no trusted proxy is nothing', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    await start({ tokens: tokensFile(), proxy: { ...proxy, from: ['10.0.0.0/8'] } });
    const from = (forwarded: string) => ({ origin: url(), 'x-forwarded-for': forwarded });
    for (let tries = 0; tries < 10; tries++) await logIn('wrong', from(`203.0.113.${tries}`));
    expect((await logIn(tokens['ada'], from('203.0.113.99'))).status).toBe(429);
    expect(logged.every((one) => one.from === '127.0.0.1')).toBe(true);
  });

  it('over TLS, the cookie is for TLS only', async () => {
    const tokens = tokensOf({ ada: 'admin' });
    const names = { hosts: ['lockstep.example'], origins: ['https://lockstep.example'] };
    await start({ tokens: tokensFile(), ...names });
    expect(dashboard?.url).toBe('https://lockstep.example');
    expect((await ask('/')).status).toBe(403);
    const headers = { host: 'lockstep.example', origin: 'https://lockstep.example' };
    expect((await ask('/', { headers })).headers['content-security-policy']).toContain('wss://lockstep.example;');
    expect((await logIn(tokens['ada'], headers)).headers['set-cookie']?.[0]).toMatch(/; SameSite=Strict; Secure$/);
  });
});

it.each([
  ['127.0.0.1', [], 'admin'],
  ['0.0.0.0', [], 'viewer'],
  // Something in front passes on what comes from elsewhere.
  ['127.0.0.1', ['lockstep.example'], 'viewer'],
])('without tokens, everybody on %s with the hosts %j is %s', async (host, hosts, role) => {
  await start({ hosts }, host);
  const headers: Record<string, string> = hosts[0] === undefined ? {} : { host: hosts[0] };
  expect(await visitor(headers)).toMatchObject({ name: '', role });
});
