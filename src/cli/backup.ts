import type { Command } from 'commander';
import { checkBackup } from '../backup/check.ts';
import type { BackupContent } from '../backup/format.ts';
import { restoreBackup } from '../backup/restore.ts';
import { takeBackup, type BackupReport } from '../backup/take.ts';
import { openBus } from '../client/client.ts';
import {
  connectOptions,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printError, printJson } from './output.ts';

type BackupFlags = ConnectionFlags & OutputFlags;
type RestoreFlags = BackupFlags & { check?: boolean };

/** What is under way is said no more often. */
const SAY_EVERY_MS = 500;
const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

export function backupCommands(program: Command): void {
  withJson(withConnection(program.command('backup')))
    .summary('write state, waiting events and deployed functions to a file, while all goes on')
    .description(
      'Writes one moment of the namespace to a file: state, transactions under way, events that wait, dead letters, deployed functions. Everything goes on meanwhile. See docs/backup.md.',
    )
    .argument('<file>', 'must not be there yet')
    .action(async (file: string, flags: BackupFlags) => {
      const { bus, settings } = await openBus(await connectOptions(flags), 'backup');
      try {
        const report = await takeBackup({ bus, settings, file, onProgress: progress() });
        if (flags.json) printJson(report);
        else print(`${file} has ${size(report)} and the ${described(report)}`);
      } finally {
        await bus.close();
      }
    });
  withJson(withConnection(program.command('restore')))
    .summary('bring a backup back, where nothing is')
    .description(
      'Brings a backup back on a NATS server that has nothing of the namespace. Start workers afterwards: they go on from that moment. Nothing is changed before the file is known to be whole.',
    )
    .argument('<file>', 'written by millrace backup')
    .option('--check', 'only look whether the file is whole, and say what it has')
    .action(async (file: string, flags: RestoreFlags) => {
      const content = flags.check ? await checkBackup(file) : await restore(file, flags);
      if (flags.json) printJson(content);
      else print(`${flags.check ? `${file} has` : 'restored:'} the ${described(content)}`);
    });
}

/** `server`: instead of the one that the flags name. */
export async function restore(
  file: string,
  flags: ConnectionFlags,
  server = flags.server,
): Promise<BackupContent> {
  const connection = server === undefined ? flags : { ...flags, server };
  const { bus, settings } = await openBus(await connectOptions(connection), 'restore');
  try {
    return await restoreBackup({ bus, settings, file, onProgress: progress() });
  } finally {
    await bus.close();
  }
}

function progress(): (what: string) => void {
  let saidMs = Number.NEGATIVE_INFINITY;
  return (what) => {
    if (performance.now() - saidMs < SAY_EVERY_MS) return;
    saidMs = performance.now();
    printError(`… ${what}`);
  };
}

function described({ at, partitions, keys, events, deployedFiles }: BackupContent): string {
  const messages = Object.values(events).reduce((sum, count) => sum + count, 0);
  const streams = Object.keys(events).length;
  const parts = [
    `${keys} keys on ${partitions} partitions`,
    `${messages} messages of ${streams} streams`,
    `${deployedFiles} deployed files`,
  ];
  return `state of ${at}: ${parts.join(', ')}`;
}

function size({ bytes }: BackupReport): string {
  const step = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1_000 ** step).toFixed(step > 1 ? 1 : 0)} ${UNITS[step]}`;
}
