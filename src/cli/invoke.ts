import type { Command } from 'commander';
import { connect } from '../client/client.ts';
import {
  connectOptions,
  readData,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { printResult } from './output.ts';

interface InvokeFlags extends ConnectionFlags, OutputFlags {
  timeout?: number;
  id?: string;
}

export function invokeCommand(program: Command): void {
  withJson(withConnection(program.command('invoke')))
    .summary('run a function and print its result')
    .description(
      'Runs a function by its name and prints its result as JSON. Bytes are printed as they are, with --json as {"base64": …}.',
    )
    .argument('<function>', 'the function’s name')
    .argument('[json]', 'its input; - reads standard input')
    .option('--timeout <ms>', 'how long to wait for the result', wholeNumber(1, 86_400_000))
    .option('--id <id>', 'the event’s id')
    .action(async (name: string, json: string | undefined, flags: InvokeFlags) => {
      const data = await readData(json);
      await using mill = await connect(await connectOptions(flags));
      const result = await mill.invoke(name, data, {
        ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
        ...(flags.id === undefined ? {} : { id: flags.id }),
      });
      printResult(result, flags.json === true);
    });
}
