/** Options that several commands share, and what they mean. */
import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { ConnectOptions } from '../client/client.ts';
import { DEFAULT_SERVER } from '../client/client.ts';
import { dueMsOf, MAX_DELAY_MS } from '../core/later.ts';
import { functionNameReason, quote } from '../core/names.ts';
import { inboxPrefixReason, ROLES, type Role } from '../core/permissions.ts';
import { parseServerUrl } from '../core/server-url.ts';
import { parseSettings, type SettingsInput } from '../core/settings.ts';

export interface ConnectionFlags {
  server?: string;
  creds?: string;
  nkey?: string;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
  role?: Role;
  inboxPrefix?: string;
  namespace?: string;
  config?: string;
  replicas?: number;
}

export interface OutputFlags {
  json?: boolean;
}

/** Environment variables that stand in for flags; one that is empty counts as not set (main.ts). */
export const ENVIRONMENT = {
  server: 'NATS_URL',
  creds: 'NATS_CREDS',
  nkey: 'NATS_NKEY',
  tlsCa: 'NATS_CA',
  tlsCert: 'NATS_CERT',
  tlsKey: 'NATS_KEY',
  role: 'MILLRACE_ROLE',
  inboxPrefix: 'NATS_INBOX_PREFIX',
  namespace: 'MILLRACE_NAMESPACE',
  config: 'MILLRACE_CONFIG',
  replicas: 'MILLRACE_REPLICAS',
  trust: 'MILLRACE_TRUST',
  sign: 'MILLRACE_SIGN',
  secrets: 'MILLRACE_SECRETS',
} as const;

export function withConnection(command: Command): Command {
  const option = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(notEmpty);
  return command
    .addOption(
      option('--server <url>', `NATS server, or several with commas (default: ${DEFAULT_SERVER})`)
        .env(ENVIRONMENT.server)
        .argParser(serverList),
    )
    .addOption(option('--creds <file>', 'NATS credentials file').env(ENVIRONMENT.creds))
    .addOption(option('--nkey <file>', 'file with the seed of an nkey').env(ENVIRONMENT.nkey))
    .addOption(
      option('--tls-ca <file>', 'who may have signed the server’s certificate').env(
        ENVIRONMENT.tlsCa,
      ),
    )
    .addOption(
      option('--tls-cert <file>', 'own certificate, for mutual TLS').env(ENVIRONMENT.tlsCert),
    )
    .addOption(option('--tls-key <file>', 'its key').env(ENVIRONMENT.tlsKey))
    .addOption(
      new Option('--role <role>', 'which of "millrace permissions" the NATS user has')
        .env(ENVIRONMENT.role)
        .choices(ROLES),
    )
    .addOption(
      option('--inbox-prefix <subject>', 'where answers come (default: _INBOX.<role>)')
        .env(ENVIRONMENT.inboxPrefix)
        .argParser(legalInboxPrefix),
    )
    .addOption(
      option('--namespace <name>', 'which installation (default: millrace)')
        .env(ENVIRONMENT.namespace)
        .argParser(legalNamespace),
    )
    .addOption(
      option('--config <file>', 'settings as JSON, see config/README.md').env(ENVIRONMENT.config),
    )
    .addOption(
      option('--replicas <n>', 'on how many servers of a cluster what is made is kept (default: 1)')
        .env(ENVIRONMENT.replicas)
        .argParser(wholeNumber(1, MAX_REPLICAS)),
    );
}

export function withJson(command: Command): Command {
  return command.option('--json', 'machine-readable output');
}

export const DEFAULT_FUNCTIONS = 'functions';

export function withFunctions(command: Command): Command {
  return command.option(
    '--functions <dir>',
    'the folder of functions',
    notEmpty,
    DEFAULT_FUNCTIONS,
  );
}

/** Of commands whose workers run functions. */
export function withSecrets(command: Command): Command {
  return command.addOption(
    new Option('--secrets <dir>', 'a folder with a file for each secret that functions name')
      .env(ENVIRONMENT.secrets)
      .argParser(notEmpty),
  );
}

/** JetStream's own. */
const MAX_REPLICAS = 5;

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export function withLogLevel(command: Command): Command {
  return command.addOption(
    new Option('--log-level <level>', 'how much workers log').choices(LOG_LEVELS).default('info'),
  );
}

/** What `connect` and `openBus` take, from the flags, with the settings file read. */
export async function connectOptions(
  flags: ConnectionFlags,
  settings: SettingsInput = {},
): Promise<ConnectOptions> {
  return {
    ...(flags.server === undefined ? {} : { servers: flags.server.split(',') }),
    ...(flags.creds === undefined ? {} : { credentials: flags.creds }),
    ...(flags.nkey === undefined ? {} : { nkey: flags.nkey }),
    ...(flags.role === undefined ? {} : { role: flags.role }),
    ...(flags.inboxPrefix === undefined ? {} : { inboxPrefix: flags.inboxPrefix }),
    tls: {
      ...(flags.tlsCa === undefined ? {} : { ca: flags.tlsCa }),
      ...(flags.tlsCert === undefined ? {} : { cert: flags.tlsCert }),
      ...(flags.tlsKey === undefined ? {} : { key: flags.tlsKey }),
    },
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
    settings: {
      ...(await readConfig(flags.config)),
      ...(flags.replicas === undefined ? {} : { replicas: flags.replicas }),
      ...settings,
    },
  };
}

async function readConfig(file: string | undefined): Promise<SettingsInput> {
  if (file === undefined) return {};
  let settings: unknown;
  try {
    settings = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new MillraceError(
      'USAGE',
      `The settings file ${file} cannot be read: ${messageOf(cause)}.`,
      {
        cause,
      },
    );
  }
  parseSettings(settings, file);
  return settings as SettingsInput;
}

/** For commander: some text, or wrong usage. */
export function notEmpty(text: string): string {
  if (text.trim() !== '') return text;
  throw new InvalidArgumentError('It must not be empty.');
}

/** For commander: names of functions with commas between them. */
export function functionNames(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  for (const name of names) {
    const reason = functionNameReason(name);
    if (reason !== undefined) throw new InvalidArgumentError(`${quote(name)} ${reason}.`);
  }
  return names;
}

export function legalInboxPrefix(prefix: string): string {
  const reason = inboxPrefixReason(prefix);
  if (reason === undefined) return prefix;
  throw new InvalidArgumentError(`It ${reason}.`);
}

export function legalNamespace(namespace: string): string {
  try {
    return parseSettings({ namespace }).namespace;
  } catch {
    throw new InvalidArgumentError('It must be 1 to 32 of A-Z a-z 0-9 _ -, and not _INBOX.');
  }
}

function serverList(text: string): string {
  const servers = text.split(',').map(notEmpty);
  // What it throws goes by the command line's library, whose own sentence would show the password.
  for (const server of servers) parseServerUrl(server);
  return servers.join(',');
}

/** For commander: a whole number in a range, or wrong usage. */
export function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= minimum && value <= maximum) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${minimum} to ${maximum}.`);
  };
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** For commander: a time span such as 500ms, 5s, 2m, 1.5h or 7d, in milliseconds. */
export function duration(text: string): number {
  const [, amount, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  const delayMs = Math.round(Number(amount) * (UNIT_MS[unit] ?? Number.NaN));
  if (delayMs <= MAX_DELAY_MS) return delayMs;
  throw new InvalidArgumentError(
    'It must be a time such as 500ms, 5s, 2m, 1h or 7d, at most 366d.',
  );
}

/** For commander: a moment, as `publish` takes it. */
export function moment(text: string): Date {
  try {
    dueMsOf({ at: text }, Date.now());
    return new Date(text);
  } catch {
    throw new InvalidArgumentError(
      'It must be ISO 8601 with its zone, such as 2026-12-24T18:00:00Z, at most 366 days ahead.',
    );
  }
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
