/**
 * A TCP proxy in front of a server, through which a network can be slow or apart. Connections that are apart stay open and
 * carry nothing, as where packets are lost; what waits goes on when they are together again.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

const HOST = '127.0.0.1';
/** Enough of the beginning to have the name in. */
const MAX_GREETING_BYTES = 16 * 1024;
/** Clients and servers of NATS say who they are in the first lines that they send. */
const NAME = /^(?:CONNECT|INFO) .*?"(?:server_)?name":"([^"]+)"/m;

interface Pipe {
  /** Whose connection it is, once it has said so. */
  name: string;
  greeting: string;
  near: Socket;
  far: Socket;
}

export class Proxy {
  readonly port: number;
  readonly #server: Server;
  readonly #pipes = new Set<Pipe>();
  #apart: (name: string) => boolean = () => false;
  /** Added to the way of every chunk, there and back. */
  delayMs = 0;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async open(target: number, port = 0): Promise<Proxy> {
    const server = createServer({ pauseOnConnect: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: HOST, port }, resolve);
    });
    const address = server.address();
    const proxy = new Proxy(server, typeof address === 'object' ? (address?.port ?? 0) : 0);
    server.on('connection', (near) => proxy.#accept(near, target));
    return proxy;
  }

  /** Names of those that are connected. */
  get names(): string[] {
    return [...this.#pipes].map(({ name }) => name);
  }

  /** From now on connections of whoever is named so carry nothing; `together` ends it. */
  apart(from: (name: string) => boolean): void {
    this.#apart = from;
    this.#judge();
  }

  together(): void {
    this.apart(() => false);
  }

  async close(): Promise<void> {
    for (const { near, far } of this.#pipes) {
      near.destroy();
      far.destroy();
    }
    await new Promise<void>((resolve) => void this.#server.close(() => resolve()));
  }

  #accept(near: Socket, target: number): void {
    const far = connect({ host: HOST, port: target });
    const pipe: Pipe = { name: '', greeting: '', near, far };
    this.#pipes.add(pipe);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk) => {
        if (from === near) this.#listen(pipe, chunk);
        this.#pass(to, chunk);
      });
      from.on('error', () => {});
      from.on('close', () => {
        this.#pipes.delete(pipe);
        this.#later(() => to.destroy());
      });
    }
    near.resume();
    this.#judge();
  }

  #pass(to: Socket, chunk: Buffer): void {
    this.#later(() => {
      if (!to.destroyed) to.write(chunk);
    });
  }

  #later(happen: () => void): void {
    if (this.delayMs === 0) happen();
    else setTimeout(happen, this.delayMs);
  }

  #listen(pipe: Pipe, chunk: Buffer): void {
    if (pipe.name !== '' || pipe.greeting.length > MAX_GREETING_BYTES) return;
    pipe.greeting += chunk.toString('latin1');
    pipe.name = NAME.exec(pipe.greeting)?.[1] ?? '';
    if (pipe.name !== '') this.#judge();
  }

  #judge(): void {
    for (const { name, near, far } of this.#pipes) {
      const stop = this.#apart(name);
      for (const socket of [near, far]) {
        if (stop) socket.pause();
        else socket.resume();
      }
    }
  }
}
