import { describe, expect, it } from 'vitest';
import { bytesOf, sessionService } from '../../../coordinator/io/session_wire.js';
import { SessionClient } from '../../../shared/wire/services.js';
import { type CoordinatorMessage, coordinatorMessage } from '../../../shared/wire/session.js';

const prepare: CoordinatorMessage = { kind: 'prepare', job: 'j1', generation: 3, term: 7 };

describe('messages to workers', () => {
  it('are bytes that the stub of a worker understands', () => {
    const written = sessionService['Connect']?.responseSerialize(bytesOf(prepare));
    const wire = SessionClient.service['Connect']?.responseDeserialize(written ?? Buffer.alloc(0));
    expect(coordinatorMessage.decode(wire, 'CoordinatorMessage')).toEqual(prepare);
  });

  it('become bytes once, however many workers they go to', () => {
    expect(bytesOf(prepare)).toBe(bytesOf(prepare));
    expect(bytesOf({ ...prepare })).not.toBe(bytesOf(prepare));
  });
});
