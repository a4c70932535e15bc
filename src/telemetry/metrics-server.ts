/** `GET /metrics` on a port of its own, for Prometheus and nobody else: loopback unless it is told otherwise. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MillraceError, messageOf } from '../core/errors.ts';
import { METRICS_CONTENT_TYPE } from './metrics.ts';

export interface MetricsServerOptions {
  /** 0 takes any that is free. */
  port: number;
  /** Default 127.0.0.1. */
  host?: string;
  /** May take its time; asked once for all that ask meanwhile. */
  text: () => Promise<string>;
}

const MAX_CONNECTIONS = 64;
const REQUEST_TIMEOUT_MS = 10_000;

export class MetricsServer {
  readonly #server: Server;
  readonly #text: () => Promise<string>;
  #asking: Promise<string> | undefined;

  private constructor(text: () => Promise<string>) {
    this.#text = text;
    const timeouts = { headersTimeout: REQUEST_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS };
    this.#server = createServer(timeouts, ({ method, url = '' }, response) => {
      const [path] = url.split('?', 1);
      if (path !== '/metrics') answer(response, 404, 'There is only /metrics.\n');
      else if (method !== 'GET' && method !== 'HEAD') {
        response.setHeader('Allow', 'GET, HEAD');
        answer(response, 405, 'Only GET.\n');
      } else void this.#answer(response);
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Throws USAGE where it cannot listen there. */
  static async open({
    port,
    host = '127.0.0.1',
    text,
  }: MetricsServerOptions): Promise<MetricsServer> {
    const own = new MetricsServer(text);
    await new Promise<void>((resolve, reject) => {
      own.#server.once('error', (cause: Error) => {
        const message = `Metrics cannot be served on ${host}:${port}: ${messageOf(cause)}.`;
        reject(new MillraceError('USAGE', message, { cause }));
      });
      own.#server.listen(port, host, resolve);
    });
    // It alone keeps no process alive.
    own.#server.unref();
    return own;
  }

  get url(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/metrics`;
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  async #answer(response: ServerResponse): Promise<void> {
    this.#asking ??= this.#text().finally(() => {
      this.#asking = undefined;
    });
    try {
      const text = await this.#asking;
      response.setHeader('Content-Type', METRICS_CONTENT_TYPE);
      answer(response, 200, text);
    } catch {
      answer(response, 500, 'The metrics could not be put together.\n');
    }
  }
}

function answer(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.end(text);
}
