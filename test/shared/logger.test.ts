import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { transports } from 'winston';
import { createLogger, type LogContext } from '../../shared/logger.js';

function written(context: () => LogContext) {
  const stream = new PassThrough();
  const log = createLogger('worker', 'w1', 'info', context);
  log.clear().add(new transports.Stream({ stream }));
  const lines = (): readonly unknown[] =>
    String(stream.read() ?? '')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  return { log, lines };
}

it('a line says what it is about at that moment, who says it, and when', () => {
  let job: LogContext = {};
  const { log, lines } = written(() => ({ worker: 'w1', ...job }));
  log.info('idle');
  job = { job: 'j1', step: 3, generation: 2 };
  log.warn('busy', { reason: 'x' });
  const said = { daemon: 'worker', name: 'w1', worker: 'w1', time: expect.stringMatching(/^\d{4}-.*Z$/) };
  expect(lines()).toEqual([
    { ...said, level: 'info', message: 'idle' },
    { ...said, level: 'warn', message: 'busy', reason: 'x', job: 'j1', step: 3, generation: 2 },
  ]);
});

it('what a line or a child says of itself counts', () => {
  const { log, lines } = written(() => ({ worker: 'w1', job: 'j1' }));
  log.info('of another', { job: 'j2', worker: 'w2' });
  log.child({ job: 'j3' }).info('of a third');
  expect(lines()).toMatchObject([
    { job: 'j2', worker: 'w2' },
    { job: 'j3', worker: 'w1' },
  ]);
});
