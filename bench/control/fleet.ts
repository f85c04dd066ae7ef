/**
 * One process with many simulated workers, each with a connection of its own to the coordinator. It is told over its channel what to do,
 * and ends with the benchmark.
 *
 * Each worker reaches the coordinator under another loopback address, so that its socket can be told from the others' and reset.
 */
import { subscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import { nanoid } from 'nanoid';
import { createLogger } from '../../shared/logger.js';
import type { CoordinatorMessage } from '../../shared/wire/session.js';
import { monotonicMs, type News, type Order, order } from './messages.js';
import { SimulatedExchange } from './simulated_exchange.js';
import { SimulatedWorker } from './simulated_worker.js';

type Told = Extract<News, { kind: 'told' }>;

const log = createLogger('fleet', String(process.pid), 'error');
const workers = new Map<number, SimulatedWorker>();
/** By the address that they are connected to. */
const sockets = new Map<string, Socket>();
const told = new Map<string, Told>();
let sent = 0;
let received = 0;

const say = (news: News): void => void process.send?.(news);
const exchange = new SimulatedExchange(say);

function hostOf(worker: number): string {
  return `127.1.${worker >> 8}.${worker & 255}`;
}

subscribe('net.client.socket', (message) => {
  if (message === null || typeof message !== 'object' || !('socket' in message)) return;
  const { socket } = message;
  if (!(socket instanceof Socket)) return;
  socket.once('connect', () => sockets.set(socket.remoteAddress ?? '', socket));
});

/** Gathered for a turn of the event loop: a message for each worker would keep the benchmark busy. */
function noteTold(message: CoordinatorMessage, members: number): void {
  if (message.kind !== 'prepare' && message.kind !== 'start') return;
  const { kind: phase, job, generation } = message;
  const key = `${phase}/${job}/${generation}`;
  const more = (told.get(key)?.more ?? 0) + 1;
  if (told.size === 0) setImmediate(flushTold);
  told.set(key, { kind: 'told', phase, job, generation, members, more, atMs: monotonicMs() });
}

function flushTold(): void {
  for (const news of told.values()) say(news);
  told.clear();
}

/** Each job asks for the workers that have its number as a label: which job a worker gets is then the same in every run. */
function join(worker: number, { port, term, workersAJob }: Extract<Order, { kind: 'join' }>): void {
  const name = `w${worker}`;
  workers.set(
    worker,
    new SimulatedWorker({
      identity: {
        worker: name,
        incarnation: nanoid(),
        host: 'bench',
        pid: process.pid,
        peerAddress: '127.0.0.1:1',
        machine: {
          labels: new Map([['job', String(Math.floor(worker / workersAJob))]]),
          cpus: 1,
          gpus: 0,
          memoryBytes: 2 ** 30,
        },
        measures: false,
      },
      leader: { term, name: 'c1', address: `${hostOf(worker)}:${port}` },
      exchange,
      onReceived: (message) => {
        received += 1;
        noteTold(message, message.kind === 'start' ? message.roster.length : 0);
      },
      onSent: (kind, job) => {
        sent += 1;
        if (kind === 'loaded') say({ kind: 'loaded', worker, job, atMs: monotonicMs() });
      },
      log,
    }),
  );
}

function vanish(worker: number): void {
  const one = workers.get(worker);
  const socket = sockets.get(hostOf(worker));
  if (one === undefined || socket === undefined) throw new Error(`worker ${worker} is not connected`);
  const { job } = one;
  one.vanish();
  workers.delete(worker);
  const atMs = monotonicMs();
  socket.resetAndDestroy();
  one.close();
  say({ kind: 'vanished', worker, job, atMs });
}

function obey(given: Order): void {
  switch (given.kind) {
    case 'join':
      for (const worker of given.workers) join(worker, given);
      break;
    case 'vanish':
      for (const worker of given.workers) vanish(worker);
      break;
    case 'reduced':
      exchange.reduced(given.job, given.generation, given.step);
      break;
    case 'count': {
      const { user, system } = process.cpuUsage();
      say({ kind: 'counted', sent, received, cpuMs: (user + system) / 1000 });
      break;
    }
  }
}

process.on('message', (message) => obey(order.parse(message)));
process.on('disconnect', () => process.exit(0));
