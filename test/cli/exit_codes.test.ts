import { Metadata, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { callFailure } from '../../cli/call_errors.js';
import { exitCodeOfJob } from '../../cli/exit_codes.js';
import { Patience } from '../../cli/patience.js';

function callError(code: status, leader?: string): Error {
  const metadata = new Metadata();
  if (leader !== undefined) metadata.set('lockstep-leader', leader);
  return Object.assign(new Error('x'), { code, details: 'name: is \u001b[31mbad', metadata });
}

describe('a failed call', () => {
  it.each([
    [status.INVALID_ARGUMENT, 2],
    [status.ALREADY_EXISTS, 2],
    [status.NOT_FOUND, 3],
    [status.PERMISSION_DENIED, 5],
    [status.UNAUTHENTICATED, 5],
    [status.INTERNAL, 1],
    [status.RESOURCE_EXHAUSTED, 1],
  ])('with status %d ends the command with %d', (code, exitCode) => {
    const failure = callFailure(callError(code));
    expect(failure).toMatchObject({ kind: 'final', error: { exitCode } });
    expect(failure.kind === 'final' && failure.error.message).toContain('name: is bad');
  });

  it('is tried elsewhere, where it says so', () => {
    expect(callFailure(callError(status.FAILED_PRECONDITION, 'b:2'))).toEqual({ kind: 'not_leader', address: 'b:2' });
    expect(callFailure(callError(status.FAILED_PRECONDITION))).toEqual({ kind: 'not_leader', address: undefined });
    expect(callFailure(callError(status.UNAVAILABLE))).toMatchObject({ kind: 'unreachable' });
    expect(callFailure(callError(status.DEADLINE_EXCEEDED))).toEqual({ kind: 'too_late' });
  });

  it.each([
    ['Last error: 80EC:error:0A00045C:SSL routines:tlsv13 alert certificate required:../x.c', 'give --tls-dir'],
    [
      'No connection established. Last error: Error: certificate has expired. Resolution note: ',
      'is not believed: certificate has',
    ],
    [
      'No connection established. Last error: Error: the certificate is that of worker w1, not of a coordinator. Resolution note: ',
      'that of worker w1',
    ],
  ])('because of certificates is not allowed: %j', (details, message) => {
    const failure = callFailure(Object.assign(callError(status.UNAVAILABLE), { details }));
    expect(failure).toMatchObject({ kind: 'final', error: { exitCode: 5, message: expect.stringContaining(message) } });
  });

  it.each([
    ['Last error: Failed to connect (2026). Resolution note: ', 'it does not speak without TLS'],
    ['Last error: Error: write EPROTO SSL routines:wrong version number', 'it speaks no TLS'],
    ['Last error: read ECONNRESET (2026). Resolution note: ', 'it may not believe the certificate'],
    ['Last error: connect ECONNREFUSED 127.0.0.1:1 (2026)', 'connect ECONNREFUSED 127.0.0.1:1'],
  ])('says what TLS may have to do with it: %j', (details, reason) => {
    const failure = callFailure(Object.assign(callError(status.UNAVAILABLE), { details }));
    expect(failure).toMatchObject({ kind: 'unreachable', reason: expect.stringContaining(reason) });
  });

  it('that is no failure of a call is a fault of ours', () => {
    expect(() => callFailure(new TypeError('x'))).toThrow(TypeError);
  });
});

describe('a job', () => {
  it.each([
    ['finished', 0],
    ['failed', 1],
    ['cancelled', 1],
  ] as const)('that is %s ends the command with %d', (state, exitCode) => {
    expect(exitCodeOfJob(state)).toBe(exitCode);
  });
});

describe('patience', () => {
  it('begins with the first failure, doubles its pauses up to a second, and ends', () => {
    let nowMs = 1_000_000;
    const patience = new Patience(3000, () => nowMs);
    const pauses: (number | undefined)[] = [];
    for (;;) {
      const pauseMs = patience.nextPauseMs();
      pauses.push(pauseMs);
      if (pauseMs === undefined) break;
      nowMs += pauseMs;
    }
    expect(pauses).toEqual([100, 200, 400, 800, 1000, undefined]);
    patience.reset();
    expect(patience.nextPauseMs()).toBe(100);
  });
});
