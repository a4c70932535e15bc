import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { connect, type Mill } from '../client/client.ts';
import type { InspectedLayout } from '../client/partitions.ts';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import type { MillraceError } from '../core/errors.ts';
import type { Layout } from '../core/state/layout.ts';
import {
  connectOptions,
  wholeNumber,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printError, printJson } from './output.ts';

interface PartitionsFlags extends ConnectionFlags, OutputFlags {
  wait: boolean;
}

const LOOK_EVERY_MS = 250;
const SAY_EVERY_MS = 1_000;
/** A worker that dies takes its answer with it; the change goes on. */
const MAX_SILENCES = 40;

export function partitionsCommand(program: Command): void {
  const partitions = program
    .command('partitions')
    .summary('say or change the number of partitions')
    .description('The number of partitions that the keys of the state lie on.');
  withJson(withConnection(partitions.command('show', { isDefault: true })))
    .summary('how many there are, and how far a change is')
    .action(async (flags: PartitionsFlags) => {
      await using mill = await connect(await connectOptions(flags));
      const layout = await mill.partitions.layout();
      if (flags.json) printJson(layout);
      else print(shown(layout));
    });
  withJson(withConnection(partitions.command('set')))
    .summary('change it while everything goes on')
    .description(
      'Changes the number of partitions. Functions go on; a key is away while the keys that move with it are copied. Stopped in the middle, by whatever, the change goes on by itself.',
    )
    .argument('<number>', `1 to ${MAX_PARTITIONS}`, wholeNumber(1, MAX_PARTITIONS))
    .option('--no-wait', 'do not wait until all keys have moved')
    .action(async (number: number, flags: PartitionsFlags) => {
      await using mill = await connect(await connectOptions(flags));
      const begun = await mill.partitions.set(number);
      const layout = flags.wait ? await moved(mill, begun.generation) : begun;
      if (flags.json) printJson(layout);
      else print(shown(layout));
    });
}

async function moved(mill: Mill, generation: number): Promise<InspectedLayout> {
  let said = '';
  let saidMs = Number.NEGATIVE_INFINITY;
  let silences = 0;
  for (;;) {
    try {
      const layout = await mill.partitions.layout();
      silences = 0;
      // Whoever has been asked may not have heard of it yet. A later one can only follow the end of this one.
      const over = layout.generation === generation && layout.from === layout.to;
      if (over || layout.generation > generation) return layout;
      const now = shown(layout);
      const due = performance.now() - saidMs >= SAY_EVERY_MS;
      if (due && now !== said && layout.generation === generation) {
        printError(now);
        said = now;
        saidMs = performance.now();
      }
    } catch (error) {
      silences += 1;
      const { code } = error as MillraceError;
      if ((code !== 'UNAVAILABLE' && code !== 'TIMEOUT') || silences >= MAX_SILENCES) throw error;
    }
    await delay(LOOK_EVERY_MS);
  }
}

function shown({ from, to, moves, movesLeft }: Layout & Partial<InspectedLayout>): string {
  if (from === to) return `${to} ${to === 1 ? 'partition' : 'partitions'}`;
  if (moves === undefined || movesLeft === undefined) return `from ${from} to ${to} partitions`;
  return `from ${from} to ${to} partitions: ${moves - movesLeft} of ${moves} moves done`;
}
