/** Daemons that come, come back, and come with a name that another one has. */
import { expect, it } from 'vitest';
import { jobRecord, LoneLeader } from './lone_leader.js';

function hello(leader: LoneLeader, incarnation: string, session: string) {
  const machine = { labels: new Map(), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 };
  const identity = { worker: 'w1', incarnation, host: `host-${incarnation}`, pid: 7, peerAddress: 'h:1', machine };
  return leader.say(session, { kind: 'hello', protocol: 1, ...identity, term: 0, measures: false, holding: undefined });
}

function closed(commands: ReturnType<typeof hello>): readonly string[] {
  return commands.flatMap((one) => (one.kind === 'close_session' ? [`${one.session}: ${one.reason}`] : []));
}

it('of two daemons with one name the newer one keeps it, and the other one is told who has it', () => {
  const leader = new LoneLeader(jobRecord());
  hello(leader, 'a', 's1');
  expect(closed(hello(leader, 'b', 's2'))).toEqual(['s1: it was restarted']);
  const refused = 's3: another daemon with the name w1 runs on host-b (process 7): give each its own';
  expect(closed(hello(leader, 'a', 's3'))).toEqual([refused]);
  expect(leader.state.workers.get('w1')).toMatchObject({ incarnation: 'b', session: 's2' });
  expect(closed(hello(leader, 'b', 's4'))).toEqual(['s2: it opened a new session']);
  expect(closed(hello(leader, 'a', 's5'))).toEqual([refused.replace('s3', 's5')]);
});

it('when the newer one is gone the other one is welcome', () => {
  const leader = new LoneLeader(jobRecord());
  hello(leader, 'a', 's1');
  hello(leader, 'b', 's2');
  leader.happen({ kind: 'session_closed', session: 's2', reason: 'gone' });
  expect(closed(hello(leader, 'a', 's3'))).toEqual([]);
  expect(leader.state.workers.get('w1')).toMatchObject({ incarnation: 'a', session: 's3' });
});

it('a daemon may be restarted as often as it likes', () => {
  const leader = new LoneLeader(jobRecord());
  for (let count = 0; count < 40; count++) hello(leader, `i${count}`, `s${count}`);
  expect(leader.state.workers.get('w1')).toMatchObject({ incarnation: 'i39', session: 's39' });
  expect(leader.state.workers.get('w1')?.displaced).toHaveLength(16);
});
