import { expect, it } from 'vitest';
import type { WorkerMessage } from '../../../shared/wire/session.js';
import type { WorkerCommand } from '../../../worker/core/command.js';
import { LoneWorker } from './lone_worker.js';

const VECTOR = { vectorBytes: 64, bf16Bytes: 0 };

function linesIn(commands: readonly WorkerCommand[]) {
  const messages = commands.flatMap((command): WorkerMessage[] => (command.kind === 'send' ? [command.message] : []));
  return messages.flatMap((message) => (message.kind === 'logLines' ? message.lines : []));
}

function worker(): LoneWorker {
  const lone = new LoneWorker();
  lone.load(VECTOR);
  lone.coordinator({ kind: 'welcome', term: 1, coordinator: 'c1', heartbeatMs: 500 });
  return lone;
}

function print(lone: LoneWorker, ...texts: readonly string[]) {
  const lines = texts.map((text, index) => ({ timeMs: index, stream: 'stdout', text }));
  return linesIn(lone.happen({ kind: 'lines_printed', start: 1, lines }));
}

function newSession(lone: LoneWorker, term: number) {
  lone.happen({ kind: 'session_closed' });
  lone.happen({ kind: 'session_opened' });
  return linesIn(lone.coordinator({ kind: 'welcome', term, coordinator: 'c2', heartbeatMs: 500 }));
}

it('a line is said once in a session, with its number, attempt, generation and step', () => {
  const lone = worker();
  expect(print(lone, 'a')).toMatchObject([{ text: 'a', number: 1, attempt: 1, generation: 0, step: 0 }]);
  lone.begin(3);
  expect(print(lone, 'b', 'c')).toMatchObject([
    { text: 'b', number: 2, generation: 3, step: 0 },
    { text: 'c', number: 3 },
  ]);
});

it('a new leader is told all that is kept, also what was printed while nobody led', () => {
  const lone = worker();
  print(lone, 'a', 'b');
  lone.happen({ kind: 'session_closed' });
  expect(print(lone, 'c')).toEqual([]);
  lone.happen({ kind: 'session_opened' });
  expect(print(lone, 'd')).toEqual([]);
  const told = linesIn(lone.coordinator({ kind: 'welcome', term: 2, coordinator: 'c2', heartbeatMs: 500 }));
  expect(told.map(({ text, number }) => `${number}${text}`)).toEqual(['1a', '2b', '3c', '4d']);
});

it('also of a job that has ended', () => {
  const lone = worker();
  print(lone, 'a');
  lone.coordinator({ kind: 'unload', term: 1, job: 'j', reason: 'the job is finished' });
  lone.happen({ kind: 'engine_exited', start: 1, reason: 'signal SIGKILL' });
  expect(newSession(lone, 2)).toMatchObject([{ text: 'a' }]);
});

it('the newest lines are kept within 256 KiB, empty ones too', () => {
  const lone = worker();
  print(lone, ...Array.from({ length: 300 }, (_, index) => `${index}`.padEnd(8_000)));
  const kept = newSession(lone, 2);
  expect(kept.at(-1)?.text.trim()).toBe('299');
  expect(kept.length).toBe(Math.floor(262_144 / 8_064));
  print(lone, ...Array.from({ length: 50_000 }, () => ''));
  expect(newSession(lone, 3)).toHaveLength(262_144 / 64);
});

it('a message holds a bounded number of lines', () => {
  const lone = worker();
  lone.commands.length = 0;
  print(lone, ...Array.from({ length: 1_000 }, () => 'x'));
  const sizes = lone.commands.flatMap((one) =>
    one.kind === 'send' && one.message.kind === 'logLines' ? [one.message.lines.length] : [],
  );
  expect(sizes).toEqual([...Array.from({ length: 7 }, () => 128), 104]);
});
