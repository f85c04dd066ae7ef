import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import type { CoordinatorState } from '../../../coordinator/core/state.js';
import { Dashboard } from '../../../coordinator/web/dashboard.js';
import type { KnownLeader } from '../../../coordinator/web/hub.js';
import { createLogger } from '../../../shared/logger.js';
import { parseServerMessage, type ServerMessage } from '../../../shared/wire/dashboard.js';
import { addJob, addStep, leadingState, logEntry } from './known_jobs.js';

let pages = '';
let state: CoordinatorState;
let leader: KnownLeader | null;
let etcdAnswers = true;
let dashboard: Dashboard;

const STILL_MS = 500;

function start(): Promise<Dashboard> {
  return Dashboard.start({
    name: 'c1',
    config: { listen: '127.0.0.1:0', hosts: [], origins: [], tokens: undefined, proxy: undefined },
    pages,
    state,
    dispatch: () => undefined,
    leader: () => leader,
    etcdAnswers: async () => etcdAnswers,
    audit: { record: () => undefined, objection: undefined },
    log: createLogger('coordinator', 'c1', 'error'),
    stillMs: STILL_MS,
  });
}

beforeEach(async () => {
  pages = mkdtempSync(join(tmpdir(), 'lockstep-pages-'));
  for (const name of ['index.html', 'main.js', 'style.css', 'favicon.svg']) writeFileSync(join(pages, name), name);
  state = leadingState();
  leader = null;
  etcdAnswers = true;
  dashboard = await start();
});

afterEach(() => {
  dashboard.close();
  rmSync(pages, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** `fetch` does not let one choose the Host. */
function ask(path: string, headers: Readonly<Record<string, string>> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(`${dashboard.url}${path}`, { method, headers }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += String(chunk);
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

function live(headers: Readonly<Record<string, string>> = { origin: dashboard.url }): WebSocket {
  return new WebSocket(`${dashboard.url.replace('http', 'ws')}/live`, { headers });
}

async function refusalOfLive(headers: Readonly<Record<string, string>>): Promise<string> {
  const [error] = await once(live(headers), 'error');
  return String(error);
}

/** A page that looks at a job, once it has the snapshot. */
async function watching(job: string, messages: ServerMessage[] = []): Promise<WebSocket> {
  const socket = live();
  socket.on('message', (bytes) => messages.push(parseServerMessage(String(bytes))));
  await once(socket, 'open');
  // The first look at who leads.
  await vi.waitFor(() => expect(messages.some((one) => one.kind === 'hello' && one.leads)).toBe(true));
  socket.send(JSON.stringify({ kind: 'watch', job, resume: null }));
  await vi.waitFor(() => expect(messages.some((one) => one.kind === 'job_snapshot')).toBe(true));
  return socket;
}

it('answers with the page, and allows it nothing but what comes from here', async () => {
  const { status, headers, body } = await ask('/');
  expect([status, body]).toEqual([200, 'index.html']);
  const host = dashboard.url.slice('http://'.length);
  expect(headers['content-security-policy']).toBe(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
      `connect-src 'self' ws://${host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  );
  expect(headers['x-content-type-options']).toBe('nosniff');
  expect(headers['access-control-allow-origin']).toBeUndefined();
});

it('a page that has not changed is not sent again', async () => {
  const { headers } = await ask('/main.js');
  const again = await ask('/main.js', { 'if-none-match': String(headers['etag']) });
  expect([again.status, again.body]).toEqual([304, '']);
});

it.each(['/nothing', '/../package.json', '/%2e%2e/package.json', '//main.js', '/live'])(
  '%s is no page',
  async (path) => {
    expect((await ask(path)).status).toBe(404);
  },
);

it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('%s is not answered', async (method) => {
  expect((await ask('/', {}, method)).status).toBe(405);
});

it.each(['/', '/metrics', '/token', '/healthz'])('%s is refused for another host or a foreign page', async (path) => {
  expect((await ask(path, { host: 'evil.example' })).status).toBe(403);
  expect((await ask(path, { origin: 'http://evil.example' })).status).toBe(403);
  expect((await ask(path, { origin: dashboard.url })).status).toBe(200);
});

it('a live connection is refused for another host, a foreign page, and one that does not say where it comes from', async () => {
  for (const headers of [{ origin: 'http://evil.example' }, { origin: dashboard.url, host: 'evil.example' }, {}]) {
    expect(await refusalOfLive(headers)).toContain('403');
  }
  const own = live();
  await once(own, 'open');
  own.close();
});

/** Somebody who sends this and never ends the connection. Resolves when the dashboard has closed it, in both directions. */
async function untilClosed(asked: string, reads: boolean): Promise<void> {
  const { hostname, port, host } = new URL(dashboard.url);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  socket.on('error', () => undefined);
  if (reads) socket.resume();
  socket.write(asked.replaceAll('HOST', host));
  // Its own end is open, so what is written here is refused as soon as nobody is there any more.
  const writer = setInterval(() => socket.write('x'), 50);
  try {
    await new Promise((resolve) => socket.once('close', resolve));
  } finally {
    clearInterval(writer);
  }
}

it('a live connection that was refused is closed, though the other end keeps it open', async () => {
  await untilClosed('GET /live HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n', true);
});

it('whoever asks again and again and reads no answer is sent away', async () => {
  writeFileSync(join(pages, 'main.js'), Buffer.alloc(1_000_000));
  dashboard.close();
  dashboard = await start();
  await untilClosed('GET /main.js HTTP/1.1\r\nHost: HOST\r\n\r\n'.repeat(50), false);
});

it('there is a limit of pages', async () => {
  const open = Array.from({ length: 64 }, () => live());
  await Promise.all(open.map((one) => once(one, 'open')));
  expect(await refusalOfLive({ origin: dashboard.url })).toContain('503');
  for (const one of open) one.terminate();
  await vi.waitFor(async () => {
    const again = live();
    await once(again, 'open');
    again.terminate();
  });
});

it('a message that is too long ends the connection', async () => {
  const socket = live();
  await once(socket, 'open');
  socket.send('x'.repeat(5_000));
  expect((await once(socket, 'close'))[0]).toBe(1009);
});

it.each([
  ['messages', (socket: WebSocket) => socket.send('{"kind":"watch","job":null,"resume":null}')],
  ['pings', (socket: WebSocket) => socket.ping()],
])('a flood of %s ends the connection, and no other', async (_what, send) => {
  const quiet = live();
  await once(quiet, 'open');
  const flooding = live();
  await once(flooding, 'open');
  let pongs = 0;
  flooding.on('pong', () => pongs++);
  for (let count = 0; count < 10_000; count++) send(flooding);
  const [code, reason] = await once(flooding, 'close');
  expect([code, String(reason)]).toEqual([1008, 'too many requests']);
  expect(pongs).toBeLessThanOrEqual(20);
  expect(quiet.readyState).toBe(WebSocket.OPEN);
  quiet.terminate();
});

it.each([
  ['a message that is no JSON', 'x'],
  ['a message that asks for nothing known', '{"kind":"shutdown"}'],
  ['a key too many', '{"kind":"watch","job":null,"resume":null,"role":"admin"}'],
])('%s ends the connection', async (_what, message) => {
  const socket = live();
  await once(socket, 'open');
  socket.send(message);
  expect((await once(socket, 'close'))[0]).toBe(1008);
});

it('a page gets what happens', async () => {
  const run = addJob(state, 'a');
  const messages: ServerMessage[] = [];
  const socket = await watching('a', messages);
  addStep(run, 0);
  dashboard.publish('a');
  const ofStep = { kind: 'job_delta', data: { series: { columns: { step: [0] } } } };
  await vi.waitFor(() => expect(messages).toContainEqual(expect.objectContaining({ kind: 'job_delta' })), 10_000);
  expect(messages.find(({ kind }) => kind === 'job_delta')).toMatchObject(ofStep);
  socket.terminate();
});

it('a page that does not read stops getting deltas before much is kept for it', { timeout: 60_000 }, async () => {
  const run = addJob(state, 'a');
  const frozen = await watching('a');
  frozen.pause();
  await vi.waitFor(
    async () => {
      // Long lines fill the kernel's buffers, and then ours, soonest.
      for (let count = 0; count < 30; count++) {
        run.logs.lines.push(logEntry(0, 'x'.repeat(4_096)));
      }
      run.logs.dropped += run.logs.lines.splice(0, Math.max(0, run.logs.lines.length - 100)).length;
      dashboard.publish('a');
      expect((await ask('/metrics')).body).toContain('lockstep_dashboard_viewers_lagging 1\n');
    },
    { timeout: 30_000, interval: 100 },
  );
  frozen.terminate();
});

it('a coordinator that stands by leads to the page of the leader', async () => {
  state.leading = undefined;
  leader = { name: 'c2', dashboard: 'http://127.0.0.1:9' };
  const { status, headers } = await ask('/');
  expect([status, headers['location']]).toEqual([307, 'http://127.0.0.1:9/']);
  // Its own name in etcd is an old one: there is nowhere to go to.
  leader = { name: 'c1', dashboard: dashboard.url };
  expect((await ask('/')).status).toBe(200);
  leader = null;
  expect((await ask('/')).status).toBe(200);
});

it.each([
  [true, true, 200, 'leads'],
  [true, false, 200, 'leads'],
  [false, true, 200, 'stands by'],
  [false, false, 503, 'etcd does not answer'],
])('leads: %s, etcd: %s: /readyz is %i, %s', async (leads, answers, status, body) => {
  if (!leads) state.leading = undefined;
  etcdAnswers = answers;
  expect(await ask('/readyz')).toMatchObject({ status, body: `${body}\n` });
  expect((await ask('/healthz')).status).toBe(200);
});
