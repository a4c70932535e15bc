import type { Command } from 'commander';
import { connect, type Mill } from '../client/client.ts';
import { MillraceError } from '../core/errors.ts';
import { nearest } from '../function/nearest.ts';
import {
  connectOptions,
  notEmpty,
  readData,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { printPart, printResult } from './output.ts';

interface InvokeFlags extends ConnectionFlags, OutputFlags {
  timeout?: number;
  id?: string;
  stream?: boolean;
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
    .option('--id <id>', 'the event’s id', notEmpty)
    .option('--stream', 'print the parts of its answer as they come, a line of JSON each')
    .action(async (name: string, json: string | undefined, flags: InvokeFlags) => {
      if (flags.stream === true && flags.id !== undefined) {
        throw new MillraceError('USAGE', '--stream has no --id: what is kept under one is whole.');
      }
      const data = await readData(json);
      await using mill = await connect(await connectOptions(flags));
      const timeout = flags.timeout === undefined ? {} : { timeoutMs: flags.timeout };
      const run = async (): Promise<void> => {
        if (flags.stream === true) {
          for await (const part of mill.stream(name, data, timeout)) printPart(part);
          return;
        }
        const id = flags.id === undefined ? {} : { id: flags.id };
        printResult(await mill.invoke(name, data, { ...timeout, ...id }), flags.json === true);
      };
      await run().catch(async (error: unknown) => {
        throw await withSuggestion(mill, name, error);
      });
    });
}

/** Of a name that no worker knows, the one that was probably meant. */
async function withSuggestion(mill: Mill, name: string, error: unknown): Promise<unknown> {
  if (!(error instanceof MillraceError) || error.code !== 'UNKNOWN_FUNCTION') return error;
  const functions = await mill.inspect.functions().catch(() => []);
  const meant = nearest(
    name,
    functions.map((each) => each.name),
  );
  const hint =
    meant === undefined ? '"millrace inspect functions" lists them' : `did you mean ${meant}?`;
  return new MillraceError(error.code, `${error.message.replace(/\.$/, '')} (${hint}).`, {
    cause: error,
  });
}
