/**
 * A process with simulated workers whose steps take no time: the cores, the sessions and the reports are real, and as many steps are made
 * in a second as the benchmark says. It is told over its channel what to do, and ends with the benchmark.
 */
import { nanoid } from 'nanoid';
import { createLogger } from '../../shared/logger.js';
import { SimulatedWorker } from '../control/simulated_worker.js';
import { type SourceOrder, sourceOrder } from './messages.js';
import { PacedExchange } from './paced_exchange.js';

const TICK_MS = 10;
/** What is not made up for when this process was not given a processor: the steps of so long a time. */
const MAX_DEBT_MS = 500;

const log = createLogger('source', String(process.pid), 'error');
const exchange = new PacedExchange();
let stepsPerSecond = 0;
/** Steps that are due and not made. */
let due = 0;
let lookedMs = performance.now();

function join({ workers, address, term }: Extract<SourceOrder, { kind: 'join' }>): void {
  for (let number = 0; number < workers; number++) {
    new SimulatedWorker({
      identity: {
        worker: `source${number}`,
        incarnation: nanoid(),
        host: 'source',
        pid: process.pid,
        peerAddress: '127.0.0.1:1',
        machine: { labels: new Map([['source', String(number)]]), cpus: 1, gpus: 0, memoryBytes: 2 ** 30 },
        measures: false,
      },
      leader: { term, name: 'c1', address },
      exchange,
      prompt: true,
      onReceived: () => undefined,
      onSent: () => undefined,
      log,
    });
  }
}

function tick(): void {
  const nowMs = performance.now();
  due += (stepsPerSecond * Math.min(nowMs - lookedMs, MAX_DEBT_MS)) / 1000;
  lookedMs = nowMs;
  const each = Math.floor(due / Math.max(1, exchange.members));
  due -= each * exchange.members;
  exchange.release(each);
}

function obey(order: SourceOrder): void {
  switch (order.kind) {
    case 'join':
      join(order);
      break;
    case 'rate':
      stepsPerSecond = order.stepsPerSecond;
      due = 0;
      lookedMs = performance.now();
      break;
  }
}

process.on('message', (message) => obey(sourceOrder.parse(message)));
process.on('disconnect', () => process.exit(0));
setInterval(tick, TICK_MS);
