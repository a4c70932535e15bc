#!/usr/bin/env node
/** `millrace`: exit status 0, 1 for a failure, 2 for wrong usage; errors are one line on standard error. */
import { Command, CommanderError } from 'commander';
import { backupCommands } from './backup.ts';
import { benchCommand } from './bench.ts';
import { clusterCommand } from './cluster.ts';
import { deployCommands } from './deploy.ts';
import { deadCommand } from './dead.ts';
import { devCommand } from './dev.ts';
import { doctorCommand } from './doctor.ts';
import { gatewayCommand } from './gateway.ts';
import { initCommand } from './init.ts';
import { inspectCommand } from './inspect.ts';
import { invokeCommand } from './invoke.ts';
import { logsCommand } from './logs.ts';
import { ENVIRONMENT } from './options.ts';
import { describeUsage, EXIT_USAGE, fail, printError } from './output.ts';
import { PACKAGE_VERSION } from './package-info.ts';
import { partitionsCommand } from './partitions.ts';
import { permissionsCommand } from './permissions.ts';
import { publishCommand } from './publish.ts';
import { workerCommand } from './worker.ts';

function buildProgram(): Command {
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
  for (const add of [
    initCommand,
    devCommand,
    clusterCommand,
    doctorCommand,
    workerCommand,
    gatewayCommand,
    publishCommand,
    invokeCommand,
    inspectCommand,
    deadCommand,
    deployCommands,
    partitionsCommand,
    logsCommand,
    backupCommands,
    permissionsCommand,
    benchCommand,
  ]) {
    add(program);
  }
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
    const program = buildProgram();
    const [node = '', script = '', ...words] = process.argv;
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
