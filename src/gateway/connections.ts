import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Connections on which nothing was ever asked, as browsers and balancers open them ahead of need: the server ends at its close only those
 * that have had a request.
 */
export class Connections {
  readonly #open = new Set<Socket>();
  /** Requests that are not answered. */
  readonly #busy = new Map<Socket, number>();

  constructor(server: Server) {
    server.on('connection', (socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
    server.on('request', ({ socket }, response) => {
      this.#busy.set(socket, (this.#busy.get(socket) ?? 0) + 1);
      response.once('close', () => {
        const left = (this.#busy.get(socket) ?? 1) - 1;
        if (left > 0) this.#busy.set(socket, left);
        else this.#busy.delete(socket);
      });
    });
  }

  endIdle(): void {
    for (const socket of this.#open) if (!this.#busy.has(socket)) socket.destroy();
  }
}
