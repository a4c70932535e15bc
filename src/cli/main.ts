#!/usr/bin/env node
/** `millrace`: exit status 0, 1 for a failure, 2 for wrong usage; errors are one line on standard error. */
import { Command, CommanderError } from 'commander';
import { ENVIRONMENT } from './options.ts';
import { describeUsage, EXIT_USAGE, fail, printError } from './output.ts';
import { PACKAGE_VERSION } from './package-info.ts';

/** Each is loaded when its command is given: what one of them needs would slow all others down. */
const COMMANDS: readonly [names: string, load: () => Promise<(program: Command) => void>][] = [
  ['init', async () => (await import('./init.ts')).initCommand],
  ['dev', async () => (await import('./dev.ts')).devCommand],
  ['cluster', async () => (await import('./cluster.ts')).clusterCommand],
  ['doctor', async () => (await import('./doctor.ts')).doctorCommand],
  ['worker', async () => (await import('./worker.ts')).workerCommand],
  ['gateway', async () => (await import('./gateway.ts')).gatewayCommand],
  ['publish', async () => (await import('./publish.ts')).publishCommand],
  ['invoke', async () => (await import('./invoke.ts')).invokeCommand],
  ['inspect', async () => (await import('./inspect.ts')).inspectCommand],
  ['dead', async () => (await import('./dead.ts')).deadCommand],
  [
    'deploy deploy-key versions rollback promote remove',
    async () => (await import('./deploy.ts')).deployCommands,
  ],
  ['partitions', async () => (await import('./partitions.ts')).partitionsCommand],
  ['logs', async () => (await import('./logs.ts')).logsCommand],
  ['backup restore', async () => (await import('./backup.ts')).backupCommands],
  ['permissions', async () => (await import('./permissions.ts')).permissionsCommand],
  ['bench', async () => (await import('./bench.ts')).benchCommand],
];

/** With the commands that have the name, or all. */
async function buildProgram(name: string | undefined): Promise<Command> {
  const named = COMMANDS.filter(([names]) => name !== undefined && names.split(' ').includes(name));
  const program = new Command('millrace')
    .description(
      'Event functions on NATS: publish events, functions run; to scale, start another worker.',
    )
    .version(PACKAGE_VERSION)
    .option('--verbose', 'show stack traces of errors')
    .configureOutput({ outputError: (message) => printError(describeUsage(message)) })
    .addHelpText(
      'after',
      `
First steps:
  millrace dev                              start a broker and two workers here
  millrace invoke sum '{"num1":1,"num2":2}'  run a function
  millrace publish calc.sum '{"num1":1,"num2":2}'  publish an event that runs it
  millrace worker                           add a worker
  millrace inspect workers                  see who is there`,
    );
  // Inherited by the commands, so that every wrong usage ends here and not in the library's exit.
  program.exitOverride();
  const loads = named.length === 0 ? COMMANDS : named;
  for (const add of await Promise.all(loads.map(async ([, load]) => load()))) add(program);
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    command.option('--verbose', 'show stack traces of errors');
    // The help has the terminal's width; where the source breaks a line says nothing.
    command.description(command.description().replace(/(?<!\n)\n(?!\n)/g, ' '));
  }
  return program;
}

function unknownCommand(program: Command, words: readonly string[]): string | undefined {
  const [first, second] = words.filter((word) => !word.startsWith('-'));
  const name = first === 'help' ? second : first;
  const known = program.commands.some((command) => command.name() === name);
  return known || name === 'help' ? undefined : name;
}

async function main(): Promise<void> {
  // `millrace … | head` closes the pipe when it has seen enough: no failure worth a stack.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    // The exit status says it all the same.
    if (error.code !== 'EPIPE') throw error;
  });
  // `NATS_URL= millrace …` means that it is not set, here and in the processes that this one starts.
  for (const name of Object.values(ENVIRONMENT)) {
    if (process.env[name]?.trim() === '') delete process.env[name];
  }
  try {
    const [node = '', script = '', ...words] = process.argv;
    const program = await buildProgram(words.find((word) => !word.startsWith('-')));
    // With --help behind it, or help before it, a command that there is not would pass for none.
    const unknown = unknownCommand(program, words);
    await program.parseAsync([node, script, ...(unknown === undefined ? words : [unknown])]);
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has printed its sentence already, or the help; help that was asked for and version are no failure.
      if (error.code === 'commander.help' && error.exitCode !== 0) {
        printError(`\n${describeUsage('the command is missing')}`);
      }
      process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
      return;
    }
    process.exitCode = fail(error);
  }
}

await main();
