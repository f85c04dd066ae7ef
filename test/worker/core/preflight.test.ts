import { beforeEach, expect, it } from 'vitest';
import { parseJobSpec } from '../../../shared/job_spec.js';
import { knownPreflight } from '../../coordinator/core/known_preflight.js';
import { LoneWorker } from './lone_worker.js';

const PEERS = [{ worker: 'w2', peerAddress: 'h:2' }];
const spec = parseJobSpec('{version: 1, name: x, task: "a.py:A", steps: 9, batch: 8, microbatches: 8}');
const preflight = knownPreflight();

let worker: LoneWorker;
beforeEach(() => {
  worker = new LoneWorker();
  worker.happen({ kind: 'session_opened' });
});

const measure = () => worker.coordinator({ kind: 'measure', peers: PEERS, term: 1 });
const load = () =>
  worker.coordinator({ kind: 'load', job: 'j', spec, bundle: '/b', output: '/o', attempt: 1, term: 1 });
const hello = () => {
  worker.happen({ kind: 'session_closed' });
  const [command] = worker.happen({ kind: 'session_opened' });
  return command?.kind === 'send' ? command.message : undefined;
};

it('a worker measures itself when it is told to, and says what it has found', () => {
  expect(measure()).toEqual([{ kind: 'measure', peers: PEERS }]);
  expect(worker.happen({ kind: 'measured', preflight })).toEqual([
    { kind: 'send', message: { kind: 'measured', preflight } },
  ]);
});

it('one that is at it does not begin again, but takes the peers that are named later', () => {
  measure();
  expect(measure()).toEqual([{ kind: 'name_peers', peers: PEERS }]);
});

it('work ends a measurement, and what it still finds is nobody’s', () => {
  measure();
  expect(load().map(({ kind }) => kind)).toEqual(['stop_measuring', 'start_engine']);
  expect(worker.happen({ kind: 'measured', preflight })).toEqual([]);
  expect(measure()).toEqual([]);
});

it('whoever leads next hears what was found and what was said of it', () => {
  measure();
  worker.happen({ kind: 'session_closed' });
  worker.happen({ kind: 'measured', preflight });
  expect(hello()).toMatchObject({ kind: 'hello', measures: true, preflight, verdict: undefined });
  worker.coordinator({ kind: 'verdict', marked: 'it is slow', term: 1 });
  expect(hello()).toMatchObject({ preflight, verdict: { marked: 'it is slow' } });
  measure();
  worker.happen({ kind: 'measured', preflight: { ...preflight, timeMs: 2 } });
  expect(hello()).toMatchObject({ preflight: { timeMs: 2 }, verdict: undefined });
});
