import { beforeEach, describe, expect, it } from 'vitest';
import { SessionClient } from '../../../shared/wire/services.js';
import { MOST_TOGETHER, type WorkerMessage, workerMessages } from '../../../shared/wire/session.js';
import { Outbox } from '../../../worker/io/outbox.js';
import { bytesOf } from '../../../worker/io/session_wire.js';

let written: Buffer[];
let taken: (() => void)[];
let outbox: Outbox;

beforeEach(() => {
  written = [];
  taken = [];
  outbox = new Outbox((bytes, done) => {
    written.push(bytes);
    taken.push(done);
  });
});

const endOfTurn = () => Promise.resolve();
const bytes = (...texts: readonly string[]) => texts.map((text) => Buffer.from(text));

function add(...texts: readonly string[]): void {
  for (const message of bytes(...texts)) outbox.add(message);
}

describe('what a session says', () => {
  it('in one turn goes out together at its end', async () => {
    add('a', 'b');
    expect(written).toEqual([]);
    await endOfTurn();
    expect(written).toEqual(bytes('ab'));
  });

  it('while something is under way goes together after it', async () => {
    add('a');
    await endOfTurn();
    add('b');
    await endOfTurn();
    add('c');
    await endOfTurn();
    expect(written).toEqual(bytes('a'));
    expect(outbox.length).toBe(2);
    taken[0]?.();
    expect(written).toEqual(bytes('a', 'bc'));
    taken[1]?.();
    add('d');
    await endOfTurn();
    expect(written).toEqual(bytes('a', 'bc', 'd'));
  });

  it('goes out in parts that are bounded, a large message alone', async () => {
    const small = Array.from({ length: MOST_TOGETHER + 1 }, () => 'x');
    const large = 'y'.repeat(70_000);
    add(...small, large, 'z');
    await endOfTurn();
    for (let index = 0; index < taken.length; index++) taken[index]?.();
    expect(written.map(({ length }) => length)).toEqual([MOST_TOGETHER, 1, 70_000, 1]);
  });

  it('is all written when the session is closed', async () => {
    add('a');
    await endOfTurn();
    add('b', 'c');
    outbox.flush();
    expect(written).toEqual(bytes('a', 'bc'));
    await endOfTurn();
    taken[0]?.();
    expect(written).toHaveLength(2);
  });
});

it('messages one after the other are the list of them', () => {
  const messages: readonly WorkerMessage[] = [{ kind: 'leaving' }, { kind: 'unloaded', job: 'a' }];
  const wire = SessionClient.service['Connect']?.requestDeserialize(Buffer.concat(messages.map(bytesOf)));
  expect(workerMessages.decode(wire, 'WorkerMessages')).toEqual({ messages });
});
