import { resolve } from 'node:path';
import type { Command } from 'commander';
import { DEFAULT_SERVER } from '../client/client.ts';
import {
  connectOptions,
  DEFAULT_FUNCTIONS,
  notEmpty,
  wholeNumber,
  withConnection,
  withFunctions,
  withLogLevel,
  withSecrets,
  type ConnectionFlags,
} from './options.ts';
import { restore } from './backup.ts';
import { DEFAULT_HTTP_PORT } from './gateway.ts';
import { withoutPassword } from '../core/server-url.ts';
import { print, printError } from './output.ts';

/** What a shell gives for a program that was ended by SIGINT. */
const EXIT_KILLED = 130;

interface DevFlags extends ConnectionFlags {
  functions: string;
  secrets?: string;
  port: number;
  store: string;
  workers: number;
  httpPort: number;
  gateway: boolean;
  logLevel: string;
  restore?: string;
}

export function devCommand(program: Command): void {
  withLogLevel(withSecrets(withFunctions(withConnection(program.command('dev')))))
    .summary('start a broker and workers here, reloading functions as they change')
    .description(
      `Starts a NATS server on this machine, a gateway for HTTP, and workers that run the functions of a folder. Functions are loaded again
when their files change; an edit that does not load leaves the old ones running and says why. With --server or
NATS_URL no broker is started. Ctrl-C drains the workers and stops everything; a second one kills them at once, exit
status 130.`,
    )
    .option('--port <n>', 'the broker’s port', wholeNumber(1, 65_535), 4222)
    .option('--store <dir>', 'where the broker keeps its data', notEmpty, '.millrace/broker')
    .option(
      '--http-port <n>',
      'the gateway’s port; another one where it is in use',
      wholeNumber(1, 65_535),
      DEFAULT_HTTP_PORT,
    )
    .option('--no-gateway', 'serve nothing over HTTP')
    .option('--workers <n>', 'how many worker processes', wholeNumber(1, 64), 2)
    .option('--restore <file>', 'first bring back what millrace backup has written', notEmpty)
    .action(async (flags: DevFlags) => {
      // Wrong settings are told here, before anything has been started.
      await connectOptions(flags);
      // Loaded only here: the bundler and the watcher would slow every other command down.
      const { Dev } = await import('../dev/dev.ts');
      const dev = new Dev({
        server: flags.server,
        port: flags.port,
        storeDirectory: resolve(flags.store),
        functionsDirectory: resolve(flags.functions),
        workers: flags.workers,
        beforeWorkers: restoring(flags),
        workerArguments: workerArguments(flags),
        gatewayArguments: flags.gateway ? gatewayArguments(flags) : undefined,
        environment: process.env,
        say: print,
        complain: printError,
      });
      const stopped = stopSignal(() => dev.kill());
      try {
        const url = await Promise.race([dev.start(), stopped]);
        if (url !== 'stopped') {
          print(welcome(url, flags, dev.gatewayUrl));
          await Promise.race([stopped, dev.failed]);
        }
      } catch (error) {
        await dev.stop();
        throw error;
      }
      print('stopping …');
      await dev.stop();
      print('stopped');
    });
}

function restoring(flags: DevFlags): ((server: string) => Promise<void>) | undefined {
  const { restore: file } = flags;
  if (file === undefined) return undefined;
  return async (server) => {
    const { at } = await restore(file, flags, server);
    print(`restored the state of ${at}`);
  };
}

function gatewayArguments(flags: DevFlags): string[] {
  return [
    '--port',
    `${flags.httpPort}`,
    '--or-free',
    '--log-level',
    'warn',
    ...sharedArguments(flags),
  ];
}

function workerArguments(flags: DevFlags): string[] {
  const given = sharedArguments(flags);
  if (flags.secrets !== undefined) given.push('--secrets', flags.secrets);
  return ['--local', '--functions', flags.functions, '--log-level', flags.logLevel, ...given];
}

/** What all processes must agree on. */
function sharedArguments(flags: DevFlags): string[] {
  const shared = ['creds', 'namespace', 'config', 'replicas'] as const;
  return shared.flatMap((flag) => {
    const value = flags[flag];
    return value === undefined ? [] : [`--${flag}`, `${value}`];
  });
}

/** Resolves at the first signal; the second one ends the process. */
function stopSignal(kill: () => void): Promise<'stopped'> {
  return new Promise((resolve) => {
    let stopping = false;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (stopping) {
          kill();
          process.exit(EXIT_KILLED);
        }
        stopping = true;
        resolve('stopped');
      });
    }
  });
}

function welcome(url: string, flags: DevFlags, gatewayUrl: string): string {
  const where = withoutPassword(url);
  const server = url === DEFAULT_SERVER ? '' : ` --server ${where}`;
  const workers = flags.workers === 1 ? 'one worker' : `${flags.workers} workers`;
  // Only the folder that comes with millrace is known to hold a calculator.
  const first =
    flags.functions === DEFAULT_FUNCTIONS
      ? `invoke calculator '{"left":1,"right":2}'`
      : 'inspect functions';
  const call =
    flags.functions === DEFAULT_FUNCTIONS
      ? `/fn/calculator --json '{"left":1,"right":2}'`
      : '/openapi.json';
  const http = gatewayUrl === '' ? '' : `  curl ${gatewayUrl}${call}\n`;
  const dashboard = gatewayUrl === '' ? '' : `\nThe dashboard is at ${gatewayUrl}/\n`;
  return `
millrace listens at ${where} with ${workers}. In another terminal, try:

  npx millrace ${first}${server}
  npx millrace worker${server}
  npx millrace inspect workers${server}
${http}${dashboard}
Any NATS client can do it too:  nats req millrace.inspect.workers ''${server}
Functions are loaded again when a file in ${flags.functions}/ changes. Ctrl-C stops everything.
`;
}
