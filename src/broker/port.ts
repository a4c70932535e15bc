import { createServer, connect } from 'node:net';
import { MillraceError } from '../core/errors.ts';

export const HOST = '127.0.0.1';
const MAX_BANNER_BYTES = 64 * 1024;
const BANNER_TIMEOUT_MS = 1_000;

/** The part of a NATS server's first line (INFO) that we look at. */
export interface ServerInfo {
  server_name?: string;
  version?: string;
  jetstream?: boolean;
}

function parseInfo(banner: string): ServerInfo | undefined {
  const json = /^INFO (\{.*\})\s*\r?\n/.exec(banner)?.[1];
  if (json === undefined) return undefined;
  try {
    return JSON.parse(json) as ServerInfo;
  } catch {
    return undefined;
  }
}

/** The INFO line with which a NATS server greets; undefined if nothing, or something else, answers on the port. */
export function readServerInfo(port: number): Promise<ServerInfo | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: HOST, port });
    let banner = '';
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(parseInfo(banner));
    };
    const timer = setTimeout(finish, BANNER_TIMEOUT_MS);
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      banner += chunk;
      if (banner.includes('\n') || banner.length > MAX_BANNER_BYTES) finish();
    });
    socket.on('error', finish);
    socket.on('close', finish);
  });
}

/** Binds the port for a moment; 0 lets the operating system choose. Gives the port, or the error's code. */
function tryBind(port: number): Promise<number | string> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host: HOST, port, exclusive: true }, () => {
      const address = server.address();
      const bound = address !== null && typeof address === 'object' ? address.port : port;
      server.close(() => resolve(bound));
    });
  });
}

/** Why a port that was asked for cannot be had, with the way out. */
export async function portBusy(port: number, code = 'EADDRINUSE'): Promise<MillraceError> {
  const another = `choose another one with --port N`;
  if (code !== 'EADDRINUSE') {
    const message = `Port ${port} cannot be opened on ${HOST} (${code}); ${another}.`;
    return new MillraceError('BROKER_PORT_BUSY', message, { details: { port } });
  }
  const info = await readServerInfo(port);
  const message =
    info === undefined
      ? `Port ${port} is taken by a program that is no NATS server; stop it or ${another}.`
      : `A NATS server (${info.version ?? 'of unknown version'}) already answers on port ${port}; use it with --server nats://${HOST}:${port} or ${another}.`;
  return new MillraceError('BROKER_PORT_BUSY', message, {
    details: { port, natsServer: info !== undefined },
  });
}

/** A port that was free a moment ago: the one asked for, or any for 0. Throws BROKER_PORT_BUSY. */
export async function freePort(port: number): Promise<number> {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new MillraceError('USAGE', `Port ${port} is none; give --port a number from 0 to 65535.`);
  }
  const bound = await tryBind(port);
  if (typeof bound === 'number') return bound;
  throw await portBusy(port, bound);
}
