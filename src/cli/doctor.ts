import { InvalidArgumentError, type Command } from 'commander';
import { openBus } from '../client/client.ts';
import type { MillraceError } from '../core/errors.ts';
import { fail, type Check } from '../doctor/checks.ts';
import { examine } from '../doctor/examine.ts';
import { raiseReplicas } from '../doctor/streams.ts';
import {
  connectOptions,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printError, printJson, table } from './output.ts';

interface DoctorFlags extends ConnectionFlags, OutputFlags {
  monitor?: string[];
  fix?: boolean;
}

export function doctorCommand(program: Command): void {
  withJson(withConnection(program.command('doctor')))
    .summary('check whether a NATS server or cluster is fit')
    .description(
      `Checks version, JetStream, its limits, replicas, permissions, clock, and the streams that are there; with --monitor also what a
server tells only on its monitoring port. Changes nothing without --fix. Exit status 1 when something fails.`,
    )
    .option('--monitor <urls>', 'monitoring ports, as http://127.0.0.1:8222, with commas', urls)
    .option(
      '--fix',
      'raise the number of replicas where it is lower than --replicas or the settings say',
    )
    .action(async (flags: DoctorFlags) => {
      const checks = await examined(flags);
      const failed = checks.some(({ result }) => result === 'fail');
      if (flags.json) printJson({ ok: !failed, checks });
      else print(shown(checks));
      if (failed) process.exitCode = 1;
    });
}

async function examined(flags: DoctorFlags): Promise<Check[]> {
  let opened: Awaited<ReturnType<typeof openBus>>;
  try {
    opened = await openBus(await connectOptions(flags), 'millrace-doctor');
  } catch (error) {
    const { code, message } = error as MillraceError;
    if (code === 'BROKER_TOO_OLD') {
      return [fail('version', message, 'Update nats-server: https://nats.io/download.')];
    }
    throw error;
  }
  const { bus, settings } = opened;
  try {
    if (flags.fix) {
      const raised = await raiseReplicas(bus, settings);
      if (raised.length > 0)
        printError(`raised to ${settings.replicas} replicas: ${raised.join(', ')}`);
    }
    return await examine(bus, settings, flags.monitor ?? []);
  } finally {
    await bus.close();
  }
}

function shown(checks: readonly Check[]): string {
  const rows = checks.map(({ name, result, finding }) => [result, name, finding]);
  const remedies = checks.flatMap(({ name, remedy }) =>
    remedy === undefined ? [] : [`${name}: ${remedy}`],
  );
  const all = table(['', 'check', 'finding'], rows);
  return remedies.length === 0 ? all : `${all}\n\n${remedies.join('\n')}`;
}

function urls(text: string): string[] {
  return text.split(',').map((each) => {
    const url = each.trim();
    if (/^https?:\/\/\S+$/.test(url) && URL.canParse(url)) return url;
    throw new InvalidArgumentError('It must be URLs, as http://127.0.0.1:8222.');
  });
}
