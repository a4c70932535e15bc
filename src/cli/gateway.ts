import { InvalidArgumentError, type Command } from 'commander';
import { openBus } from '../client/client.ts';
import type { MillraceError } from '../core/errors.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { createLogger, logProblem } from '../worker/logger.ts';
import {
  connectOptions,
  notEmpty,
  wholeNumber,
  withConnection,
  withJson,
  withLogLevel,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printJson } from './output.ts';
import { PACKAGE_VERSION } from './package-info.ts';

interface GatewayFlags extends ConnectionFlags {
  host: string;
  port: number;
  keys?: string;
  cors?: string[];
  rate: number;
  orFree?: boolean;
  logLevel: string;
}

export const DEFAULT_HTTP_PORT = 8080;
const EXIT_KILLED = 130;

export function gatewayCommand(program: Command): void {
  const gateway = program
    .command('gateway')
    .summary('serve functions and events over HTTP')
    .description(
      'Serves functions and events over HTTP: POST /fn/<function>, POST /events/<subject>, routes of functions’ own, OpenAPI at /openapi.json, the dashboard at /. Any number of gateways may run.',
    );
  withLogLevel(withConnection(gateway.command('start', { isDefault: true })))
    .summary('serve until it is told to stop (the default)')
    .option(
      '--port <n>',
      'its port; 0 takes one that is free',
      wholeNumber(0, 65_535),
      DEFAULT_HTTP_PORT,
    )
    .option(
      '--host <host>',
      'its address; another than this machine’s needs --keys',
      notEmpty,
      '127.0.0.1',
    )
    .option('--keys <file>', 'API keys and their scopes, see docs/gateway.md', notEmpty)
    .option('--cors <origins>', 'origins whose pages may ask, separated by commas', origins)
    .option(
      '--rate <n>',
      'requests a second of one key or address; 0 for any number',
      wholeNumber(0, 1_000_000),
      0,
    )
    .option('--or-free', 'where the port is in use, take one that is free')
    .action(start);
  withJson(gateway.command('key'))
    .summary('make an API key')
    .description(
      'Makes an API key and prints it, once, with the record that belongs into the file of --keys.',
    )
    .argument('<name>', 'whose it is')
    .requiredOption(
      '--scope <scopes...>',
      'invoke:*, invoke:sum, publish:orders.>, subscribe:orders.>, inspect, operate, metrics, admin',
    )
    .action(async (name: string, flags: OutputFlags & { scope: string[] }) => {
      const { makeKey } = await import('../gateway/keys.ts');
      const { key, record } = makeKey(name, flags.scope);
      if (flags.json) printJson({ key, record });
      else print(`${key}\n\nadd to the keys of the file: ${JSON.stringify(record)}`);
    });
}

async function start(flags: GatewayFlags): Promise<void> {
  const stopped = stopSignal();
  // Loaded only here: the web server would slow every other command down.
  const { Gateway } = await import('../gateway/gateway.ts');
  const { ApiKeys } = await import('../gateway/keys.ts');
  const keys = flags.keys === undefined ? undefined : await ApiKeys.read(flags.keys);
  const log = createLogger(flags.logLevel);
  const connect = await connectOptions(flags);
  const { host, port, cors = [], rate } = flags;
  const open = async (freePort: number): Promise<Gateway> => {
    const onProblem = (problem: MillraceError): void => logProblem(log, problem);
    const opened = await openBus({ ...connect, onProblem }, 'millrace-gateway', true);
    return Gateway.open({
      ...opened,
      host,
      port: freePort,
      keys,
      origins: cors,
      ratePerSecond: rate,
      environment: process.env,
      version: PACKAGE_VERSION,
      onProblem: (text) => log.error(text),
    });
  };
  const gateway = await open(port).catch(async (error: unknown) => {
    if (flags.orFree !== true || codeOf(error) !== 'EADDRINUSE') throw error;
    return open(0);
  });
  log.info(`the gateway is at ${gateway.url}, with the dashboard at /`);
  process.send?.({ type: 'ready', id: gateway.url, inputs: [] });
  log.info(`the gateway ends: ${await stopped}`);
  const clean = await gateway.close();
  process.exit(clean ? 0 : 1);
}

/** Why the system has refused it. */
function codeOf(error: unknown): unknown {
  const { cause } = error as { cause?: { code?: unknown } };
  return cause?.code;
}

/** Resolves at the first reason to end; a second signal ends the process at once. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    let stopping = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (stopping) process.exit(EXIT_KILLED);
        stopping = true;
        resolve(signal);
      });
    }
    if (process.send !== undefined) process.on('disconnect', () => resolve('its parent is gone'));
  });
}

/** For commander: origins with commas between them. */
function origins(text: string): string[] {
  return text.split(',').map((each) => {
    try {
      const { origin } = new URL(each.trim());
      if (origin !== 'null') return origin;
    } catch {
      // Said below.
    }
    throw new InvalidArgumentError('It must be origins such as https://shop.example.');
  });
}
