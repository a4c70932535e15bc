import { Option, type Command } from 'commander';
import { prettyFactory } from 'pino-pretty';
import { LOG_LEVELS, MAX_TAIL_LINES, type LogLevel } from '../bus/function-logs.ts';
import { connect, type Mill } from '../client/client.ts';
import type { LogLine } from '../client/logs.ts';
import {
  connectOptions,
  notEmpty,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { printError, readable } from './output.ts';

interface LogsFlags extends ConnectionFlags, OutputFlags {
  follow?: boolean;
  level?: LogLevel;
  invocation?: string;
  lines: number;
}

const DEFAULT_LINES = 100;

export function logsCommand(program: Command): void {
  withJson(withConnection(program.command('logs')))
    .summary('show what a function logs, on all workers')
    .description(
      `Shows the last lines that a function has written with ctx.log, and what workers say of its runs; each worker keeps up to 256 KiB of
them. With --follow it shows new ones as they are written, until Ctrl-C.`,
    )
    .argument('<function>', 'its name', notEmpty)
    .option('-f, --follow', 'new lines, as they are written')
    .addOption(new Option('--level <level>', 'this one and more serious ones').choices(LOG_LEVELS))
    .option('--invocation <id>', 'of this invocation only', notEmpty)
    .option(
      '--lines <n>',
      'without --follow: so many at most',
      wholeNumber(1, MAX_TAIL_LINES),
      DEFAULT_LINES,
    )
    .action(async (name: string, flags: LogsFlags) => {
      const { level, invocation } = flags;
      const wanted = {
        ...(level === undefined ? {} : { level }),
        ...(invocation === undefined ? {} : { invocation }),
      };
      const write = writer(flags.json === true);
      await using mill = await connect(await connectOptions(flags));
      if (flags.follow === true) await follow(mill, name, wanted, write);
      else {
        const { lines, silent } = await mill.logs.tail(name, { ...wanted, lines: flags.lines });
        for (const line of lines) write(line);
        if (silent.length > 0) printError(`no answer from ${silent.join(', ')}`);
      }
    });
}

async function follow(
  mill: Mill,
  name: string,
  wanted: Parameters<Mill['logs']['follow']>[1],
  write: (line: LogLine) => void,
): Promise<void> {
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
  printError(`following ${name}; Ctrl-C ends it`);
  for await (const news of mill.logs.follow(name, { ...wanted, signal: ended.signal })) {
    if ('line' in news) write(news.line);
    else printError(`${news.dropped} lines were left out: more are written than are sent`);
  }
}

/** JSON as it was written, or a line for people. */
function writer(json: boolean): (line: LogLine) => void {
  const pretty = prettyFactory({
    colorize: process.stdout.isTTY,
    ignore: 'pid,hostname,function',
    translateTime: 'HH:MM:ss.l',
    singleLine: true,
  });
  return (line) => {
    const text = json
      ? `${JSON.stringify(line)}\n`
      : pretty(JSON.parse(JSON.stringify(line, shown)) as object);
    process.stdout.write(text);
  };
}

/** What functions write must not steer a terminal; stacks have lines. */
function shown(_: string, value: unknown): unknown {
  return typeof value === 'string' ? readable(value, '\n') : value;
}
