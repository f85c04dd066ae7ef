import { expect, it } from 'vitest';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import type { CoordinatorState } from '../../../coordinator/core/state.js';
import type { Act } from '../../../coordinator/web/audit.js';
import { Hub, type KnownLeader } from '../../../coordinator/web/hub.js';
import { PageRequests } from '../../../coordinator/web/page_requests.js';
import { PageTokens } from '../../../coordinator/web/page_token.js';
import { VIEWER_LIMITS, type Viewer, type ViewerLimits } from '../../../coordinator/web/viewer.js';
import type { Visitor } from '../../../coordinator/web/visitors.js';
import type { Hello, PageAct, ServerMessage, ViewerRequest } from '../../../shared/wire/dashboard.js';
import { addJob, addStep, addWorker, leadingState } from './known_jobs.js';
import { KnownSocket } from './known_socket.js';

interface Page {
  readonly socket: KnownSocket;
  readonly viewer: Viewer;
  readonly ask: (request: ViewerRequest) => void;
}

function world(state: CoordinatorState = leadingState(), limits: ViewerLimits = VIEWER_LIMITS) {
  let nowMs = 1_000_000;
  const dispatched: CoordinatorEvent[] = [];
  const acts: Act[] = [];
  const full: { objection: string | undefined } = { objection: undefined };
  const requests = new PageRequests((event) => dispatched.push(event));
  const tokens = new PageTokens();
  const leader: KnownLeader = { name: 'c1', dashboard: 'http://127.0.0.1:1' };
  const hub = new Hub({
    name: 'c1',
    state,
    leader: () => leader,
    requests,
    tokens,
    audit: (act) => acts.push(act),
    auditObjection: () => full.objection,
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    limits,
  });
  const tick = (count = 1) => {
    for (let index = 0; index < count; index++) {
      nowMs += 100;
      hub.tick();
    }
  };
  const open = (visitor: Partial<Visitor> = {}): Page => {
    const socket = new KnownSocket();
    const anybody: Visitor = { name: '', role: 'admin', loggedIn: false, isLetIn: () => true };
    const viewer = hub.enter(socket, { ...anybody, ...visitor }, '127.0.0.1');
    return { socket, viewer, ask: (request) => hub.asked(viewer, JSON.stringify(request)) };
  };
  tick();
  return { hub, state, dispatched, acts, full, requests, tokens, tick, open };
}

const watch = (job: string | null): ViewerRequest => ({ kind: 'watch', job, resume: null });
const kinds = (messages: readonly ServerMessage[]) => messages.map(({ kind }) => kind);

function helloOf({ socket }: Page): Hello {
  const hello = socket.messages().find((message) => message.kind === 'hello');
  if (hello === undefined) throw new Error('no hello');
  return hello;
}

function stepAll(all: ReturnType<typeof world>, job: string, from: number, count: number): void {
  const run = all.state.jobs.get(job);
  if (run === undefined) throw new Error('no such job');
  for (let step = from; step < from + count; step++) {
    addStep(run, step);
    all.hub.jobChanged(job);
  }
}

it('a page gets a snapshot, and then what changes', () => {
  const all = world();
  addJob(all.state, 'a');
  all.hub.jobChanged('a');
  const page = all.open();
  page.ask(watch('a'));
  expect(kinds(page.socket.take())).toEqual(['hello', 'cluster_snapshot', 'job_snapshot']);
  all.tick();
  page.socket.take();
  stepAll(all, 'a', 0, 3);
  all.tick();
  const [cluster, job] = page.socket.take();
  expect(cluster).toMatchObject({ kind: 'cluster_delta', data: { jobs: { changed: [{ job: 'a', committed: 3 }] } } });
  expect(job).toMatchObject({ kind: 'job_delta', data: { series: { from: 0, columns: { step: [0, 1, 2] } } } });
  all.tick();
  expect(page.socket.take().filter(({ kind }) => kind !== 'beat')).toEqual([]);
});

it('a worker that is gone is told of at the next tick', () => {
  const all = world();
  for (const name of ['w1', 'w2']) addWorker(all.state, name);
  const page = all.open();
  page.ask(watch(null));
  all.tick();
  page.socket.take();
  all.state.workers.delete('w2');
  all.tick();
  expect(page.socket.take()[0]).toMatchObject({ data: { nodes: { changed: [], gone: ['w2'] } } });
});

it('a page that comes back with its numbers gets only what it missed', () => {
  const all = world();
  addJob(all.state, 'a');
  const first = all.open();
  first.ask(watch('a'));
  stepAll(all, 'a', 0, 5);
  all.tick();
  const { epoch } = helloOf(first);
  const known = first.socket.take();
  const numberOf = (kind: ServerMessage['kind']) =>
    known.reduce((newest, message) => (message.kind === kind && 'number' in message ? message.number : newest), 0);
  const resume = { epoch, cluster: numberOf('cluster_delta'), job: numberOf('job_delta') };
  all.hub.leave(first.viewer);
  stepAll(all, 'a', 5, 2);
  all.tick();
  const again = all.open();
  again.ask({ kind: 'watch', job: 'a', resume });
  const messages = again.socket.take().filter(({ kind }) => kind !== 'hello');
  expect(kinds(messages)).toEqual(['cluster_delta', 'job_delta']);
  expect(messages[1]).toMatchObject({ number: resume.job + 1, data: { series: { columns: { step: [5, 6] } } } });
});

it('a page that was away for too long, or knew another leader, gets a snapshot', () => {
  const all = world();
  addJob(all.state, 'a');
  const page = all.open();
  page.ask(watch('a'));
  const { epoch } = helloOf(page);
  all.hub.leave(page.viewer);
  // Long enough for the job's channel to be dropped.
  all.tick(400);
  const late = all.open();
  late.ask({ kind: 'watch', job: 'a', resume: { epoch, cluster: null, job: 0 } });
  expect(kinds(late.socket.take())).toContain('job_snapshot');
  const other = all.open();
  other.ask({ kind: 'watch', job: 'a', resume: { epoch: 'other', cluster: 0, job: 0 } });
  expect(kinds(other.socket.take())).toEqual(['hello', 'cluster_snapshot', 'job_snapshot']);
});

it('a page that does not read gets a bounded number of bytes, and a snapshot once it has read them', () => {
  const maxUnsentBytes = 100_000;
  const all = world(leadingState(), { ...VIEWER_LIMITS, maxUnsentBytes });
  addJob(all.state, 'a');
  const frozen = all.open();
  frozen.ask(watch('a'));
  frozen.socket.reads = false;
  frozen.socket.keeps = false;
  let highest = 0;
  for (let tick = 0; tick < 100; tick++) {
    stepAll(all, 'a', tick * 1_000, 1_000);
    all.tick();
    highest = Math.max(highest, frozen.socket.bufferedAmount);
  }
  expect(highest).toBeGreaterThan(maxUnsentBytes);
  // One message more: the largest is the whole series.
  expect(highest).toBeLessThan(maxUnsentBytes + 150_000);
  expect(all.hub.laggingViewers).toBe(1);
  frozen.socket.keeps = true;
  frozen.socket.take();
  frozen.socket.bufferedAmount = 0;
  frozen.socket.reads = true;
  all.tick();
  expect(kinds(frozen.socket.take())).toEqual(['hello', 'cluster_snapshot', 'job_snapshot']);
  stepAll(all, 'a', 100_000, 1);
  all.tick();
  expect(kinds(frozen.socket.take())).toContain('job_delta');
});

it('a page that did not read while the leadership changed is told of it once it has', () => {
  const all = world();
  const page = all.open();
  page.ask(watch(null));
  all.tick();
  page.socket.bufferedAmount = VIEWER_LIMITS.maxUnsentBytes + 1;
  all.state.leading = { term: 2, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  all.tick(2);
  page.socket.take();
  page.socket.bufferedAmount = 0;
  all.tick();
  expect(page.socket.take()).toMatchObject([{ kind: 'hello', term: 2 }]);
  page.ask(watch(null));
  expect(kinds(page.socket.take())).toEqual(['cluster_snapshot']);
});

it('a page that did not read when it was told that a job is missing is told it once it has', () => {
  const all = world();
  const page = all.open();
  page.ask(watch(null));
  page.socket.bufferedAmount = VIEWER_LIMITS.maxUnsentBytes + 1;
  all.tick(20);
  page.ask(watch('b'));
  page.socket.take();
  page.socket.bufferedAmount = 0;
  all.tick();
  // Whoever hears a hello asks again for what it looks at.
  expect(kinds(page.socket.take())).toEqual(['hello', 'cluster_snapshot']);
  page.ask(watch('b'));
  expect(kinds(page.socket.take())).toEqual(['job_missing']);
});

it('twenty pages that look at the same cost one JSON, ten times a second at most', () => {
  const all = world();
  addJob(all.state, 'a');
  const pages = Array.from({ length: 20 }, () => {
    const page = all.open();
    page.ask(watch('a'));
    page.socket.take();
    return page;
  });
  for (let tenth = 0; tenth < 10; tenth++) {
    stepAll(all, 'a', tenth * 1_000, 1_000);
    all.tick();
  }
  const [first, ...others] = pages.map(({ socket }) => socket.sent);
  const deltas = first?.filter((bytes) => String(bytes).startsWith('{"kind":"job_delta"')) ?? [];
  expect(deltas).toHaveLength(10);
  for (const bytes of deltas) for (const other of others) expect(other.some((one) => one === bytes)).toBe(true);
});

it('a page that answers no ping is dropped', () => {
  const all = world();
  const silent = all.open();
  const alive = all.open();
  for (let second = 0; second < 30; second++) {
    all.tick(10);
    alive.viewer.heard(1_000_000 + second * 1_000);
  }
  expect(silent.socket.closed).toBe('terminated');
  expect(alive.socket.closed).toBe('');
  expect(all.hub.viewers).toBe(1);
});

it.each(['', 'null', '[]', '{"kind":"watch"}', '{"kind":"drop_all"}', '{"kind":"watch","job":7,"resume":null}'])(
  'a page that asks %s is refused',
  (text) => {
    const all = world();
    const { socket, viewer } = all.open();
    all.hub.asked(viewer, text);
    expect(socket.closed).toBe('1008 this is not a request');
  },
);

it('a page that asks too often is refused', () => {
  const all = world();
  const page = all.open();
  for (let count = 0; count <= VIEWER_LIMITS.maxRequestsPerSecond; count++) page.ask(watch(null));
  expect(page.socket.closed).toBe('1008 too many requests');
});

it('a job that is not there is said to be missing', () => {
  const page = world().open();
  page.ask(watch('b'));
  expect(page.socket.take().at(-1)).toMatchObject({ kind: 'job_missing', job: 'b' });
});

it('a job that ended before those that are listed has its row while a page looks at it', () => {
  const all = world();
  for (let number = 0; number <= 300; number++) {
    const run = addJob(all.state, `job-${number}`);
    run.record = { ...run.record, state: 'finished', submittedMs: number };
  }
  const page = all.open();
  page.ask(watch('job-0'));
  all.tick(20);
  const rows = page.socket
    .take()
    .flatMap((message) =>
      (message.kind === 'cluster_snapshot' ? message.data.jobs : []).concat(
        message.kind === 'cluster_delta' ? (message.data.jobs?.changed ?? []) : [],
      ),
    );
  expect(rows.map(({ job }) => job)).toContain('job-0');
});

it('looking at another job ends the look at the first', () => {
  const all = world();
  for (const job of ['a', 'b']) addJob(all.state, job);
  const page = all.open();
  page.ask(watch('a'));
  page.ask(watch('b'));
  page.socket.take();
  stepAll(all, 'a', 0, 1);
  all.tick();
  expect(page.socket.take().filter(({ kind }) => kind === 'job_delta')).toEqual([]);
});

it('a job is cancelled for a page that shows a token of this process, and for no other', () => {
  const all = world();
  addJob(all.state, 'a');
  const page = all.open();
  page.socket.take();
  const cancel = (token: string): ViewerRequest => ({ kind: 'cancel', request: 7, job: 'a', checkpoint: false, token });
  for (const token of ['', 'x.y', new PageTokens().issue()]) page.ask(cancel(token));
  expect(all.dispatched).toEqual([]);
  expect(page.socket.take()).toHaveLength(3);
  page.ask(cancel(all.tokens.issue()));
  const [event] = all.dispatched;
  expect(event).toMatchObject({ kind: 'cancel', job: 'a', checkpoint: false });
  all.requests.answer(event?.kind === 'cancel' ? event.request : '', '');
  expect(page.socket.take()).toEqual([{ kind: 'act_done', request: 7, error: '' }]);
});

it('pages learn at once that another leads, and their cancels are answered', () => {
  const all = world();
  addJob(all.state, 'a');
  const page = all.open();
  page.ask(watch('a'));
  const before = helloOf(page);
  page.ask({ kind: 'cancel', request: 1, job: 'a', checkpoint: false, token: all.tokens.issue() });
  page.socket.take();
  all.state.leading = undefined;
  all.tick();
  const [answer, hello] = page.socket.take();
  expect(answer).toMatchObject({ kind: 'act_done', request: 1, error: expect.stringContaining('leads no more') });
  expect(hello).toMatchObject({ kind: 'hello', leads: false, leader: { name: 'c1' } });
  page.ask(watch('a'));
  expect(page.socket.take()).toEqual([]);
  all.state.leading = { term: 9, eventCounter: 0, operationCounter: 0, saveCounter: 0 };
  all.tick();
  const again = helloOf(page);
  expect(again).toMatchObject({ leads: true, term: 9 });
  expect(again.epoch).not.toBe(before.epoch);
});

const cancelOf = (token: string): ViewerRequest => ({ kind: 'cancel', request: 1, job: 'a', checkpoint: false, token });

it.each([
  // The job is ann's.
  ['ann', 'viewer', 'a viewer may not cancel jobs'],
  ['ann', 'submitter', ''],
  ['bob', 'submitter', 'bob, a submitter, may not cancel a job of ann; an admin may'],
  ['bob', 'admin', ''],
] as const)('%s, a %s, who cancels hears: %s', (name, role, error) => {
  const all = world();
  addJob(all.state, 'a');
  const page = all.open({ name, role });
  page.ask(cancelOf(all.tokens.issue()));
  const [event] = all.dispatched;
  if (event?.kind === 'cancel') all.requests.answer(event.request, '');
  expect(page.socket.messages().at(-1)).toEqual({ kind: 'act_done', request: 1, error });
  expect(all.dispatched).toHaveLength(error === '' ? 1 : 0);
  const act = { act: 'cancel', who: name, role, from: '127.0.0.1', on: { job: 'a' }, outcome: error };
  expect(all.acts).toEqual([act]);
});

const serviceActs: readonly Extract<PageAct, { readonly worker: string }>[] = [
  { kind: 'cordon', worker: 'w1', reason: '' },
  { kind: 'drain', worker: 'w1', reason: ' new fan ' },
  { kind: 'uncordon', worker: 'w1' },
];

it.each(serviceActs)('an admin may $kind a worker, which is in the audit log', (act) => {
  const all = world();
  const page = all.open({ name: 'ada', role: 'admin' });
  page.ask({ ...act, request: 3, token: all.tokens.issue() });
  const [event] = all.dispatched;
  const told = {
    cordon: { reason: 'by ada' },
    drain: { reason: 'new fan', deadlineMs: 300_000 },
    uncordon: {},
  }[act.kind];
  const request = event !== undefined && 'request' in event ? event.request : '';
  expect(event).toEqual({ kind: act.kind, request: expect.any(String), worker: 'w1', ...told });
  expect(all.acts).toEqual([]);
  all.requests.answer(request, '');
  expect(page.socket.messages().at(-1)).toEqual({ kind: 'act_done', request: 3, error: '' });
  const on = { worker: 'w1', ...(act.kind === 'drain' ? { reason: 'new fan' } : {}) };
  expect(all.acts).toEqual([{ act: act.kind, who: 'ada', role: 'admin', from: '127.0.0.1', on, outcome: '' }]);
});

it.each(serviceActs)('nobody else may $kind a worker, nor an admin without a token of this process', (act) => {
  const all = world();
  const token = all.tokens.issue();
  const heard = (visitor: Partial<Visitor>, shown = token): string => {
    const page = all.open(visitor);
    page.ask({ ...act, request: 1, token: shown });
    const answer = page.socket.messages().at(-1);
    return answer?.kind === 'act_done' ? answer.error : '';
  };
  expect(heard({ role: 'viewer' })).toBe(`a viewer may not ${act.kind} workers; an admin may`);
  expect(heard({ role: 'submitter', name: 'bob' })).toBe(`a submitter may not ${act.kind} workers; an admin may`);
  expect(heard({ isLetIn: () => false })).toBe('log in again');
  expect(heard({}, 'x.y')).toBe('this page is older than the coordinator: reload it');
  all.state.leading = undefined;
  all.tick();
  expect(heard({})).toBe('this coordinator does not lead');
  expect(all.dispatched).toEqual([]);
  expect(all.acts.map(({ outcome }) => outcome)).toHaveLength(5);
  expect(all.acts.every(({ outcome }) => outcome !== '')).toBe(true);
});

it('what the core refuses is said to the page, and in the audit log', () => {
  const all = world();
  const page = all.open({ name: 'ada', role: 'admin' });
  page.ask({ kind: 'uncordon', worker: 'w9', request: 1, token: all.tokens.issue() });
  const [event] = all.dispatched;
  all.requests.answer(event?.kind === 'uncordon' ? event.request : '', 'there is no worker w9');
  expect(page.socket.messages().at(-1)).toMatchObject({ kind: 'act_done', error: 'there is no worker w9' });
  expect(all.acts).toMatchObject([{ act: 'uncordon', outcome: 'there is no worker w9' }]);
});

it('nothing is changed that could not be written down', () => {
  const all = world();
  const page = all.open({ name: 'ada', role: 'admin' });
  const ask = () => page.ask({ kind: 'uncordon', worker: 'w1', request: 1, token: all.tokens.issue() });
  all.full.objection = 'the audit log is full';
  ask();
  expect(page.socket.messages().at(-1)).toMatchObject({ kind: 'act_done', error: 'the audit log is full' });
  expect(all.dispatched).toEqual([]);
  all.full.objection = undefined;
  ask();
  expect(all.dispatched).toHaveLength(1);
});

it('a hundred requests wait for the core, and no more', () => {
  const all = world();
  const pages = Array.from({ length: 11 }, () => all.open());
  const ask = (page: Page | undefined, request: number) =>
    page?.ask({ kind: 'uncordon', worker: 'w1', request, token: all.tokens.issue() });
  for (let request = 0; request <= 100; request++) ask(pages[Math.floor(request / 10)], request);
  expect(all.dispatched).toHaveLength(100);
  const error = 'too many requests wait already; try again';
  expect(pages[10]?.socket.messages().at(-1)).toEqual({ kind: 'act_done', request: 100, error });
});

it('a reason of unbounded length is no request', () => {
  const all = world();
  const page = all.open();
  page.ask({ kind: 'cordon', worker: 'w1', reason: 'x'.repeat(257), request: 1, token: all.tokens.issue() });
  expect(page.socket.closed).toBe('1008 this is not a request');
});

it('whose token was taken back may not cancel any more, and is sent away', () => {
  const all = world();
  addJob(all.state, 'a');
  let letIn = true;
  const page = all.open({ name: 'ada', role: 'admin', isLetIn: () => letIn });
  letIn = false;
  page.ask(cancelOf(all.tokens.issue()));
  expect(all.dispatched).toEqual([]);
  all.tick(60);
  expect(page.socket.closed).toBe('1008 log in again');
});
