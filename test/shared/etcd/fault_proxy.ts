/** A TCP proxy in front of etcd that loses, holds back and cuts what passes. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * What happens to bytes in one direction of a connection. `lose`: swallowed, also later, because what follows a hole in a TCP
 * stream makes no sense. `hold`: kept until they are delivered.
 */
type Fate = 'pass' | 'lose' | 'hold';

class Direction {
  fate: Fate = 'pass';
  readonly #held: Buffer[] = [];

  constructor(readonly target: Socket) {}

  carry(chunk: Buffer): void {
    if (this.fate === 'hold') this.#held.push(chunk);
    else if (this.fate === 'pass') this.target.write(chunk);
  }

  /** Whether the network still has bytes that are to be delivered. */
  get isHolding(): boolean {
    return this.#held.length > 0;
  }

  deliver(): void {
    for (const chunk of this.#held.splice(0)) this.target.write(chunk);
  }
}

interface Connection {
  readonly requests: Direction;
  readonly replies: Direction;
  readonly close: () => void;
}

export class FaultProxy {
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #refusing = false;
  #fateOfNew: { requests: Fate; replies: Fate } = { requests: 'pass', replies: 'pass' };
  endpoint = '';

  private constructor(readonly targetPort: number) {
    this.#server = createServer((client) => this.#accept(client));
  }

  static async start(targetPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(targetPort);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    const address = proxy.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    proxy.endpoint = `http://127.0.0.1:${address.port}`;
    return proxy;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Requests arrive, replies do not; on the connections that are open, and on new ones until `pass`. */
  loseReplies(): void {
    this.#set({ requests: 'pass', replies: 'lose' });
  }

  /** Nothing arrives and nothing breaks: a cable was pulled. */
  loseAll(): void {
    this.#set({ requests: 'lose', replies: 'lose' });
  }

  /** Requests on the connections that are open are kept; new connections work. */
  holdRequests(): void {
    for (const { requests } of this.#connections) requests.fate = 'hold';
  }

  /** From now on the held connections swallow what comes, so that a held request is delivered without its cancellation. */
  endHold(): void {
    for (const { requests } of this.#connections) if (requests.fate === 'hold') requests.fate = 'lose';
  }

  deliverHeld(): void {
    for (const { requests } of this.#connections) requests.deliver();
  }

  /** New connections work. Those that have lost something never do again. */
  pass(): void {
    this.#refusing = false;
    this.#fateOfNew = { requests: 'pass', replies: 'pass' };
  }

  /** Breaks all connections and takes no new ones until `pass`. */
  cut(): void {
    this.#refusing = true;
    for (const connection of this.#connections) connection.close();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #set(fates: { requests: Fate; replies: Fate }): void {
    this.#fateOfNew = fates;
    for (const { requests, replies } of this.#connections) {
      requests.fate = fates.requests;
      replies.fate = fates.replies;
    }
  }

  #accept(client: Socket): void {
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const target = connect(this.targetPort, '127.0.0.1');
    const connection: Connection = {
      requests: new Direction(target),
      replies: new Direction(client),
      close: () => {
        this.#connections.delete(connection);
        client.destroy();
        target.destroy();
      },
    };
    connection.requests.fate = this.#fateOfNew.requests;
    connection.replies.fate = this.#fateOfNew.replies;
    this.#connections.add(connection);
    client.on('data', (chunk: Buffer) => connection.requests.carry(chunk));
    target.on('data', (chunk: Buffer) => connection.replies.carry(chunk));
    const closeUnlessHolding = () => {
      if (!connection.requests.isHolding) connection.close();
    };
    for (const socket of [client, target]) {
      socket.on('error', closeUnlessHolding);
      socket.on('close', closeUnlessHolding);
    }
  }
}
