import { expect, test } from 'vitest';
import { FailureLog } from '../../../shared/etcd/failure_log.js';

test('a failure that goes on is logged once, a new reason once more, and its end once', () => {
  const lines: unknown[] = [];
  const log = {
    info: (message: string, fields?: unknown) => lines.push(['info', message, fields]),
    warn: (message: string, fields?: unknown) => lines.push(['warn', message, fields]),
  };
  const failures = new FailureLog(log, 'watch of x', { a: 1 });
  failures.succeeded();
  for (const reason of ['down', 'down', 'slow', 'slow']) failures.failed(reason);
  failures.succeeded();
  failures.succeeded();
  failures.failed('down');
  expect(lines).toEqual([
    ['warn', 'watch of x failed, trying again', { a: 1, error: 'down' }],
    ['warn', 'watch of x failed, trying again', { a: 1, error: 'slow' }],
    ['info', 'watch of x works again', { a: 1, failures: 4 }],
    ['warn', 'watch of x failed, trying again', { a: 1, error: 'down' }],
  ]);
});
