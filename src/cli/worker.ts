import { InvalidArgumentError, Option, type Command } from 'commander';
import { isDeployKey } from '../deploy/signature.ts';
import {
  connectOptions,
  ENVIRONMENT,
  functionNames,
  notEmpty,
  wholeNumber,
  withConnection,
  withFunctions,
  withLogLevel,
  withSecrets,
  type ConnectionFlags,
} from './options.ts';
import { fail } from './output.ts';
import { PACKAGE_VERSION } from './package-info.ts';

interface WorkerFlags extends ConnectionFlags {
  functions: string;
  concurrency?: number;
  capacity?: number;
  only?: string[];
  local?: boolean;
  trust?: string[];
  secrets?: string;
  logLevel: string;
  metricsPort?: number;
  metricsHost: string;
}

export function workerCommand(program: Command): void {
  withLogLevel(withSecrets(withFunctions(withConnection(program.command('worker')))))
    .summary('start a worker: a process that runs functions')
    .description(
      `Starts a worker that runs what is deployed and the functions of a folder; of two of the same name the deployed one. Start more of them, here or on other machines, to add capacity.

SIGTERM or Ctrl-C drains it: it takes no more work, finishes what it has, and exits with status 0; with status 1
when some handler did not end in time, or the worker could not start. A second Ctrl-C ends it at once, with status 130.`,
    )
    .option('--concurrency <n>', 'how many runs of one function at once', wholeNumber(1, 65_536))
    .option('--only <functions>', 'run these only, separated by commas', functionNames)
    .addOption(
      new Option('--trust <keys>', 'of what is deployed run only what one of these keys has signed')
        .env(ENVIRONMENT.trust)
        .argParser(deployKeys),
    )
    .option('--local', 'of two functions of the same name run that of the folder')
    .option(
      '--capacity <n>',
      'what this worker is meant for, in comparison with others (default: 100)',
      wholeNumber(1, 10_000),
    )
    .option(
      '--metrics-port <n>',
      'serve metrics for Prometheus on this port; 0 takes one that is free',
      wholeNumber(0, 65_535),
    )
    .option('--metrics-host <host>', 'on this address', notEmpty, '127.0.0.1')
    .action(async (flags: WorkerFlags, command: Command) => {
      const { concurrency, capacity, metricsPort: port, metricsHost: host } = flags;
      const connect = await connectOptions(flags, {
        ...(concurrency === undefined ? {} : { concurrency }),
        ...(capacity === undefined ? {} : { capacity }),
      });
      // Loaded only here: the bundler would slow every other command down.
      const { runWorker } = await import('../worker/process.ts');
      const status = await runWorker({
        connect,
        functionsDirectory: flags.functions,
        functionsOptional: command.getOptionValueSource('functions') === 'default',
        preferLocal: flags.local ?? false,
        only: flags.only,
        trusted: flags.trust,
        secrets: { directory: flags.secrets, environment: process.env },
        logLevel: flags.logLevel,
        version: PACKAGE_VERSION,
        metrics: port === undefined ? undefined : { port, host },
      }).catch(fail);
      // Timers and sockets of user code, and the channel to a parent, would keep the process alive.
      process.exit(status);
    });
}

/** For commander: public keys with commas between them. */
function deployKeys(text: string): string[] {
  const keys = text.split(',').map((key) => key.trim());
  const wrong = keys.find((key) => !isDeployKey(key));
  if (wrong === undefined) return keys;
  // What is no public key may be the secret one: it is not shown.
  throw new InvalidArgumentError(
    'It must be public keys of "millrace deploy-key", which begin with U.',
  );
}
