import { Option, type Command } from 'commander';
import { connect } from '../client/client.ts';
import { MillraceError } from '../core/errors.ts';
import {
  connectOptions,
  duration,
  moment,
  notEmpty,
  readData,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printJson } from './output.ts';

interface PublishFlags extends ConnectionFlags, OutputFlags {
  id?: string;
  delay?: number;
  at?: Date;
  header: Record<string, string>;
}

export function publishCommand(program: Command): void {
  withJson(withConnection(program.command('publish')))
    .summary('publish an event')
    .description('Publishes an event; functions that listen on its subject run.')
    .argument('<subject>', 'where to publish, for example github.push')
    .argument('[json]', 'the event’s data; - reads standard input')
    .option('--id <id>', 'the event’s id', notEmpty)
    .option('--header <name=value>', 'a header; may be given again', collectHeader, {})
    .addOption(
      new Option('--delay <time>', 'publish it so much later: 500ms, 5s, 2m, 1h, 7d')
        .argParser(duration)
        .conflicts('at'),
    )
    .addOption(
      new Option('--at <time>', 'publish it then, for example 2026-12-24T18:00:00Z').argParser(
        moment,
      ),
    )
    .action(async (subject: string, json: string | undefined, flags: PublishFlags) => {
      const data = await readData(json);
      await using mill = await connect(await connectOptions(flags));
      const receipt = await mill.publish(subject, data, {
        headers: flags.header,
        ...(flags.id === undefined ? {} : { id: flags.id }),
        ...(flags.delay === undefined ? {} : { delayMs: flags.delay }),
        ...(flags.at === undefined ? {} : { at: flags.at }),
      });
      if (flags.json) printJson(receipt);
      else if (receipt.stream === undefined) print(`published ${receipt.id} on ${subject}`);
      else print(`stored ${receipt.id} in ${receipt.stream} as number ${receipt.sequence}`);
    });
}

function collectHeader(text: string, headers: Record<string, string>): Record<string, string> {
  const equals = text.indexOf('=');
  if (equals < 1) throw new MillraceError('USAGE', `A header is given as name=value, not ${text}.`);
  return { ...headers, [text.slice(0, equals)]: text.slice(equals + 1) };
}
