/** A TCP proxy in front of a data plane that counts, damages or cuts what the data plane sends, or dies in its place. */
import { connect, createServer, type Server, type Socket } from 'node:net';

export class FaultyProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes after which one bit is flipped, once; counted over all connections. */
  #flipAt = Number.POSITIVE_INFINITY;
  /** Bytes after which everything is cut and no connection is accepted any more. */
  #dieAt = Number.POSITIVE_INFINITY;
  #passed = 0;
  connections = 0;
  flips = 0;

  private constructor(
    targetPort: number,
    private readonly host: string,
  ) {
    this.#server = createServer((puller) => {
      this.connections++;
      const server = connect(targetPort, host);
      for (const socket of [puller, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => this.#sockets.delete(socket));
      }
      puller.pipe(server);
      server.on('data', (bytes) => {
        this.#damage(bytes);
        if (this.#passed >= this.#dieAt) this.#die();
        if (!puller.write(bytes)) server.pause();
      });
      puller.on('drain', () => server.resume());
      server.on('close', () => puller.destroy());
      puller.on('close', () => server.destroy());
    });
  }

  /** Listens on the host that the data plane is on. */
  static async start(targetPort: number, port = 0, host = '127.0.0.1'): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(targetPort, host);
    await new Promise<void>((resolve) => proxy.#server.listen(port, host, resolve));
    return proxy;
  }

  /** host:port */
  get address(): string {
    return `${this.host}:${this.port}`;
  }

  /** Bytes that the data plane has sent, over all connections. */
  get passedBytes(): number {
    return this.#passed;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  /** Flips one bit of the byte that comes `bytes` bytes from now. */
  flipAfter(bytes: number): void {
    this.#flipAt = this.#passed + bytes;
  }

  /** To its pullers the data plane is dead once it has sent `bytes` bytes from now. */
  dieAfter(bytes: number): void {
    this.#dieAt = this.#passed + bytes;
  }

  #die(): void {
    this.#server.close();
    this.resetConnections();
  }

  #damage(bytes: Buffer): void {
    const at = this.#flipAt - this.#passed;
    this.#passed += bytes.length;
    if (at < 0 || at >= bytes.length) return;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
    this.#flipAt = Number.POSITIVE_INFINITY;
    this.flips++;
  }

  /** Resets every connection; new ones are accepted. */
  resetConnections(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}
