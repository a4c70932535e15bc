/** Options that several commands share, and what they mean. */
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { ConnectOptions } from '../client/client.ts';
import { DEFAULT_SERVER } from '../client/client.ts';
import type { SettingsInput } from '../core/settings.ts';

export interface ConnectionFlags {
  server?: string;
  creds?: string;
  namespace?: string;
  config?: string;
}

export interface OutputFlags {
  json?: boolean;
}

export function withConnection(command: Command): Command {
  return command
    .addOption(
      new Option('--server <url>', `NATS server (default: ${DEFAULT_SERVER})`).env('NATS_URL'),
    )
    .addOption(new Option('--creds <file>', 'NATS credentials file').env('NATS_CREDS'))
    .addOption(
      new Option('--namespace <name>', 'which installation (default: millrace)').env(
        'MILLRACE_NAMESPACE',
      ),
    )
    .addOption(
      new Option('--config <file>', 'settings as JSON, see config/README.md').env(
        'MILLRACE_CONFIG',
      ),
    );
}

export function withJson(command: Command): Command {
  return command.option('--json', 'machine-readable output');
}

export function withFunctions(command: Command): Command {
  return command.option('--functions <dir>', 'the folder of functions', 'functions');
}

/** What `connect` and `openBus` take, from the flags, with the settings file read. */
export async function connectOptions(
  flags: ConnectionFlags,
  settings: SettingsInput = {},
): Promise<ConnectOptions> {
  return {
    ...(flags.server === undefined ? {} : { servers: flags.server.split(',') }),
    ...(flags.creds === undefined ? {} : { credentials: flags.creds }),
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
    settings: { ...(await readConfig(flags.config)), ...settings },
  };
}

async function readConfig(file: string | undefined): Promise<SettingsInput> {
  if (file === undefined) return {};
  try {
    return JSON.parse(await readFile(file, 'utf8')) as SettingsInput;
  } catch (cause) {
    throw new MillraceError(
      'USAGE',
      `The settings file ${file} cannot be read: ${messageOf(cause)}.`,
      {
        cause,
      },
    );
  }
}

/** For commander: a whole number in a range, or wrong usage. */
export function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${minimum} to ${maximum}.`);
  };
}

/** The JSON argument of a command; `-` reads standard input, nothing means no data. */
export async function readData(argument: string | undefined): Promise<unknown> {
  if (argument === undefined) return undefined;
  const text = argument === '-' ? await readStandardInput() : argument;
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new MillraceError('USAGE', `The data is not JSON: ${messageOf(cause)}.`, { cause });
  }
}

async function readStandardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
