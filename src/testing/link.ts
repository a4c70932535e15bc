/**
 * The way between one worker and its broker, which this process can cut and whose messages it can keep back. Production
 * code knows nothing of it: a worker is given its URL.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { ClientProtocol, type Publication } from './client-protocol.ts';

const HOST = '127.0.0.1';

/** What becomes of a message of the worker's: bytes are sent instead of it, none drop it. */
export type Verdict =
  { kind: 'pass' } | { kind: 'later'; ms: number } | { kind: 'say'; bytes: Buffer };
export const PASS: Verdict = { kind: 'pass' };
export const DROP: Verdict = { kind: 'say', bytes: Buffer.alloc(0) };

export class Link {
  /** What the worker publishes is asked about, one message after the other. */
  judge: (publication: Publication) => Verdict = () => PASS;
  readonly #server: Server;
  readonly #port: number;
  readonly #sockets = new Set<Socket>();
  /** The workers' ends of them. */
  readonly #near = new Set<Socket>();
  #cut = false;

  private constructor(server: Server, port: number, target: URL) {
    this.#server = server;
    this.#port = port;
    server.on('connection', (near) => this.#accept(near, target));
  }

  /** To the broker with this URL. */
  static async open(target: string): Promise<Link> {
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: HOST, port: 0 }, resolve);
    });
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    return new Link(server, port, new URL(target));
  }

  get url(): string {
    return `nats://${HOST}:${this.#port}`;
  }

  /** Connections stay open and carry nothing, as where packets are lost; what waits goes on when it is mended. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.pause();
  }

  mend(): void {
    this.#cut = false;
    for (const socket of this.#sockets) socket.resume();
  }

  async close(): Promise<void> {
    for (const socket of this.#near) socket.destroy();
    await new Promise<void>((resolve) => void this.#server.close(() => resolve()));
  }

  #accept(near: Socket, target: URL): void {
    const far = connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    const protocol = new ClientProtocol();
    this.#near.add(near);
    near.on('close', () => this.#near.delete(near));
    near.on('data', (chunk) => {
      try {
        for (const said of protocol.take(chunk)) {
          const verdict = said.publication === undefined ? PASS : this.judge(said.publication);
          if (verdict.kind === 'say') write(far, verdict.bytes);
          else if (verdict.kind === 'pass') write(far, said.bytes);
          else setTimeout(() => write(far, said.bytes), verdict.ms);
        }
      } catch {
        near.destroy();
      }
    });
    far.on('data', (chunk) => write(near, chunk));
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        // What it has said before it died arrives.
        other.end();
        other.resume();
      });
    }
    if (!this.#cut) near.resume();
    else far.pause();
  }
}

function write(socket: Socket, bytes: Buffer): void {
  if (bytes.length > 0 && socket.writable) socket.write(bytes);
}
