/**
 * The ways between one worker and its brokers, which this process can cut and whose messages it can keep back. Production
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
  readonly #gates: { server: Server; port: number }[] = [];
  readonly #sockets = new Set<Socket>();
  /** The workers' ends of them. */
  readonly #near = new Set<Socket>();
  #cut = false;

  private constructor() {}

  /** To the brokers with these URLs. */
  static async open(targets: readonly string[]): Promise<Link> {
    const link = new Link();
    for (const target of targets) await link.#listen(new URL(target));
    return link;
  }

  /** With commas, one for each broker. */
  get url(): string {
    return this.#gates.map(({ port }) => `nats://${HOST}:${port}`).join(',');
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
    await Promise.all(
      this.#gates.map(
        async ({ server }) => new Promise<void>((resolve) => void server.close(() => resolve())),
      ),
    );
  }

  async #listen(target: URL): Promise<void> {
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    server.on('connection', (near) => this.#accept(near, target));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: HOST, port: 0 }, resolve);
    });
    const address = server.address();
    this.#gates.push({ server, port: typeof address === 'object' ? (address?.port ?? 0) : 0 });
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
