import { Argument, type Command } from 'commander';
import { connect, type Mill } from '../client/client.ts';
import { MillraceError } from '../core/errors.ts';
import {
  connectOptions,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printError, printJson, readable, table } from './output.ts';
import {
  functionsTable,
  itemsTable,
  partitionsTable,
  scaleTable,
  transactionsTable,
  waitingTable,
  workersTable,
} from './tables.ts';
import { watchTransactions } from './watch-transactions.ts';

interface InspectFlags extends ConnectionFlags, OutputFlags {
  prefix?: string;
  limit?: number;
  cursor?: string;
  watch?: boolean;
}

interface View {
  /** After `inspect`. */
  usage: string;
  minArguments: number;
  maxArguments: number;
  /** Beside those that all have. */
  flags: (keyof InspectFlags)[];
  show: (mill: Mill, words: readonly string[], flags: InspectFlags) => Promise<void>;
}

const MAX_LIMIT = 1_000;

const VIEWS: Record<string, View> = {
  workers: plain('workers', async (mill, json) => {
    const workers = await mill.inspect.workers();
    if (json) printJson({ workers });
    else print(workersTable(workers));
  }),
  functions: plain('functions', async (mill, json) => {
    const functions = await mill.inspect.functions();
    if (json) printJson({ functions });
    else print(functionsTable(functions));
  }),
  waiting: {
    usage: 'waiting [FUNCTION]',
    minArguments: 0,
    maxArguments: 1,
    flags: [],
    show: async (mill, [functionName], { json }) => {
      const waiting = await mill.inspect.waiting(functionName);
      if (json) printJson({ waiting });
      else print(waitingTable(waiting));
    },
  },
  scale: {
    usage: 'scale [FUNCTION]',
    minArguments: 0,
    maxArguments: 1,
    flags: [],
    show: async (mill, [functionName], { json }) => {
      const scale = await mill.inspect.scale(functionName);
      if (json) printJson({ scale });
      else print(scaleTable(scale));
    },
  },
  partitions: plain('partitions', async (mill, json) => {
    const partitions = await mill.inspect.partitions();
    if (json) printJson({ partitions });
    else print(partitionsTable(partitions));
  }),
  key: {
    usage: 'key COLLECTION KEY',
    minArguments: 2,
    maxArguments: 2,
    flags: [],
    show: async (mill, [collection = '', key = ''], { json }) => {
      const found = await mill.inspect.key(collection, key);
      const { partition, owner, lockedBy } = found;
      if (json) printJson(found);
      else {
        const row = [collection, key, partition, owner, lockedBy ?? '-'];
        print(table(['COLLECTION', 'KEY', 'PARTITION', 'OWNER', 'LOCKED BY'], [row]));
      }
    },
  },
  state: {
    usage: 'state COLLECTION [KEY] [--prefix P] [--limit N] [--cursor C]',
    minArguments: 1,
    maxArguments: 2,
    flags: ['prefix', 'limit', 'cursor'],
    show: (mill, [collection = '', key], flags) =>
      key === undefined
        ? showCollection(mill, collection, flags)
        : showValue(mill, collection, key, flags),
  },
  transactions: {
    usage: 'transactions [--watch]',
    minArguments: 0,
    maxArguments: 0,
    flags: ['watch'],
    show: async (mill, _, { watch, json }) => {
      if (watch) return watchTransactions(mill, json === true);
      const transactions = await mill.inspect.transactions();
      if (json) printJson(transactions);
      else print(transactionsTable(transactions));
    },
  },
};

export function inspectCommand(program: Command): void {
  const what = new Argument('<what>', 'what to look at').choices(Object.keys(VIEWS));
  const usages = Object.values(VIEWS).map(({ usage }) => `  millrace inspect ${usage}`);
  withJson(withConnection(program.command('inspect')))
    .summary('show workers, functions, state or transactions')
    .description('Asks the workers, over request-reply, and shows what they say.')
    .addArgument(what)
    .argument('[words...]', 'collection and key, see below')
    .option('--prefix <text>', 'state: only keys that begin with it')
    .option('--limit <n>', 'state: keys of one page (default: 100)', wholeNumber(1, MAX_LIMIT))
    .option('--cursor <key>', 'state: go on after the page before')
    .option('--watch', 'transactions: print what changes until Ctrl-C')
    .addHelpText('after', `\nWhat there is:\n${usages.join('\n')}`)
    .action(async (name: string, words: string[], flags: InspectFlags) => {
      const view = checked(name, words, flags);
      await using mill = await connect(await connectOptions(flags));
      await view.show(mill, words, flags);
    });
}

/** The view, if words and flags are such as it takes; throws USAGE. */
function checked(name: string, words: readonly string[], flags: InspectFlags): View {
  const view = VIEWS[name] as View;
  const { usage, minArguments, maxArguments, flags: taken } = view;
  const special = (['prefix', 'limit', 'cursor', 'watch'] as const).filter(
    (flag) => flags[flag] !== undefined,
  );
  const strange = special.find((flag) => !taken.includes(flag) || words.length === 2);
  let wrong: string | undefined;
  if (words.length < minArguments) wrong = 'An argument is missing';
  else if (words.length > maxArguments) wrong = 'There are too many arguments';
  else if (strange !== undefined) wrong = `--${strange} has no meaning here`;
  if (wrong === undefined) return view;
  throw new MillraceError('USAGE', `${wrong}; the usage is: millrace inspect ${usage}.`);
}

function plain(usage: string, show: (mill: Mill, json: boolean) => Promise<void>): View {
  return {
    usage,
    minArguments: 0,
    maxArguments: 0,
    flags: [],
    show: (mill, _, { json }) => show(mill, json === true),
  };
}

async function showValue(
  mill: Mill,
  collection: string,
  key: string,
  { json }: InspectFlags,
): Promise<void> {
  const { value, version, partition } = await mill.inspect.state(collection, key);
  if (json) printJson({ collection, key, value, version, partition });
  else {
    const row = [collection, key, version, partition];
    print(table(['COLLECTION', 'KEY', 'VERSION', 'PARTITION'], [row]));
    print(`\n${readable(JSON.stringify(value, null, 2), '\n')}`);
  }
}

async function showCollection(mill: Mill, collection: string, flags: InspectFlags): Promise<void> {
  const { prefix, limit, cursor } = flags;
  const page = await mill.inspect.list(collection, {
    ...(prefix === undefined ? {} : { prefix }),
    ...(limit === undefined ? {} : { limit }),
    ...(cursor === undefined ? {} : { cursor }),
  });
  if (flags.json) {
    printJson(page);
    return;
  }
  print(itemsTable(page));
  if (page.cursor !== null) printError(`There are more: --cursor ${shellWord(page.cursor)}`);
}

function shellWord(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : `'${readable(text).replaceAll("'", String.raw`'\''`)}'`;
}
