import type { Command } from 'commander';
import { connect, type Mill } from '../client/client.ts';
import type { DeadEvent, DeadFilter } from '../client/dead.ts';
import { MillraceError } from '../core/errors.ts';
import {
  connectOptions,
  notEmpty,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printJson, readable, table } from './output.ts';

interface DeadFlags extends ConnectionFlags, OutputFlags {
  function?: string;
  error?: string;
  since?: Date;
  limit: number;
  all?: boolean;
}

const MAX_LIMIT = 100_000;
const DEFAULT_LIMIT = 100;
const MAX_MESSAGE_LENGTH = 80;

export function deadCommand(program: Command): void {
  const dead = program
    .command('dead')
    .summary('list, show, replay or drop events that were given up')
    .description(
      'Events that a function has failed to handle, or that could not be read: each is kept with its errors until it is replayed or dropped.',
    );
  filtered(dead.command('list'))
    .summary('list them, the oldest first')
    .action(async (flags: DeadFlags) => {
      await using mill = await connect(await connectOptions(flags));
      const events = await mill.dead.list(filterOf(flags));
      if (flags.json) printJson({ dead: events });
      else print(events.length === 0 ? 'there are none' : listed(events));
    });
  withJson(withConnection(dead.command('show')))
    .summary('show one with its data and its errors')
    .argument('<number>', 'as list has it', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .action(async (number: number, flags: DeadFlags) => {
      await using mill = await connect(await connectOptions(flags));
      const event = await mill.dead.get(number);
      if (flags.json) printJson(event);
      else print(shown(event));
    });
  for (const [verb, summary, done, act] of [
    [
      'replay',
      'have them handled again',
      'replayed',
      async (mill: Mill, number: number) => mill.dead.replay(number),
    ],
    [
      'drop',
      'remove them for good',
      'dropped',
      async (mill: Mill, number: number) => mill.dead.drop(number),
    ],
  ] as const) {
    filtered(dead.command(verb))
      .summary(summary)
      .argument('[numbers...]', 'as list has them')
      .option('--all', 'all that the filters let through')
      .action(async (numbers: string[], flags: DeadFlags) => {
        if ((numbers.length === 0) === (flags.all !== true)) {
          throw new MillraceError('USAGE', `Name the numbers of those to ${verb}, or --all.`);
        }
        const parse = wholeNumber(1, Number.MAX_SAFE_INTEGER);
        const named = numbers.map((text) => parse(text));
        await using mill = await connect(await connectOptions(flags));
        const chosen =
          flags.all === true
            ? (await mill.dead.list(filterOf(flags))).map(({ number }) => number)
            : named;
        for (const number of chosen) await act(mill, number);
        if (flags.json) printJson({ [done]: chosen });
        else print(`${done} ${chosen.length}`);
      });
  }
}

function filtered(command: Command): Command {
  return withJson(withConnection(command))
    .option('--function <name>', 'only of this function', notEmpty)
    .option(
      '--error <text>',
      'only those whose last error has this code, or this text in it',
      notEmpty,
    )
    .option(
      '--since <time>',
      'only those given up since then: 2026-11-01T12:00:00Z, or 90s, 15m, 2h, 7d ago',
      since,
    )
    .option('--limit <n>', 'at most so many', wholeNumber(1, MAX_LIMIT), DEFAULT_LIMIT);
}

function filterOf({ function: name, error, since: from, limit }: DeadFlags): DeadFilter {
  return {
    limit,
    ...(name === undefined ? {} : { function: name }),
    ...(error === undefined ? {} : { error }),
    ...(from === undefined ? {} : { since: from }),
  };
}

const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

function since(text: string): Date {
  const ago = /^(\d+)([smhd])$/.exec(text);
  const unit = ago?.[2] as keyof typeof UNITS_MS | undefined;
  const time =
    unit === undefined ? new Date(text) : new Date(Date.now() - Number(ago?.[1]) * UNITS_MS[unit]);
  if (!Number.isNaN(time.getTime())) return time;
  throw new MillraceError(
    'USAGE',
    `${text} is no time: write 2026-11-01T12:00:00Z, or 90s, 15m, 2h, 7d.`,
  );
}

function listed(events: readonly DeadEvent[]): string {
  return table(
    ['NUMBER', 'FUNCTION', 'SUBJECT', 'EVENT', 'GIVEN UP', 'ATTEMPTS', 'CODE', 'ERROR'],
    events.map(({ number, function: name, subject, id, givenUpAt, attempts, failures }) => {
      const { code = '', message = '' } = failures.at(-1) ?? {};
      const text = readable(message).slice(0, MAX_MESSAGE_LENGTH);
      return [number, name, subject, id, givenUpAt.slice(0, 19), attempts, code, text];
    }),
  );
}

function shown(event: DeadEvent): string {
  const {
    number,
    function: name,
    id,
    subject,
    stream,
    sequence,
    time,
    givenUpAt,
    attempts,
  } = event;
  const facts = [
    `dead letter ${number} of ${name}`,
    `event ${id} on ${subject}, ${sequence} in ${stream}, stored ${time}`,
    `given up ${givenUpAt} after ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}`,
    `data ${readable(JSON.stringify(event.data) ?? '')}`,
  ];
  for (const [header, value] of Object.entries(event.headers)) {
    facts.push(`header ${header}: ${readable(value)}`);
  }
  for (const { at, attempt, code, message, stack, version, worker } of event.failures) {
    facts.push('', `attempt ${attempt} at ${at}, version ${version} on ${worker}: ${code}`);
    facts.push(readable(stack ?? message, '\n'));
  }
  return facts.join('\n');
}
