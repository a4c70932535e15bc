import { InvalidArgumentError, Option, type Command } from 'commander';
import {
  publishSubjectReason,
  quote,
  reservedReason,
  subscriptionSubjectReason,
} from '../core/names.ts';
import { MillraceError } from '../core/errors.ts';
import { asClaims, asConf, asNsc, type Authentication } from '../core/permission-formats.ts';
import { inboxOf, permissionsOf, ROLES, type Role } from '../core/permissions.ts';
import { parseSettings } from '../core/settings.ts';
import {
  ENVIRONMENT,
  functionNames,
  legalInboxPrefix,
  legalNamespace,
  notEmpty,
} from './options.ts';
import { print, printJson } from './output.ts';

interface PermissionFlags {
  role?: Role[];
  format: 'conf' | 'json' | 'nsc';
  auth: Authentication;
  namespace?: string;
  user?: string;
  publish: string[];
  subscribe: string[];
  invoke?: string[];
  stream: string[];
  delayed?: boolean;
  inboxPrefix?: string;
}

export function permissionsCommand(program: Command): void {
  program
    .command('permissions')
    .summary('print the NATS permissions that each role needs, and no more')
    .description(
      'Prints NATS permissions for workers and clients: what each role needs, and no more. See docs/security.md. Clients and workers with them are started with --role.',
    )
    .option('--role <roles>', `of these only, separated by commas: ${ROLES.join(', ')}`, roles)
    .addOption(
      new Option(
        '--format <format>',
        'for nats-server, or for operator mode: commands of nsc, or claims of JWTs',
      )
        .choices(['conf', 'json', 'nsc'])
        .default('conf'),
    )
    .addOption(
      new Option('--auth <how>', 'how users of the conf prove who they are')
        .choices(['password', 'nkey'])
        .default('password'),
    )
    .addOption(
      new Option('--namespace <name>', 'which installation (default: millrace)')
        .env(ENVIRONMENT.namespace)
        .argParser(legalNamespace),
    )
    .option('--user <name>', 'of the NATS user (default: <namespace>-<role>)', userName)
    .option('--publish <subjects>', 'subjects of events, separated by commas', subjects, [])
    .option('--subscribe <subjects>', 'that functions listen on', subjects, [])
    .option('--invoke <functions>', 'that may be invoked (default: all)', functionNames)
    .option('--stream <names>', 'streams of your own that hold events of functions', streams, [])
    .option('--delayed', 'let publishers publish for later: any event that workers may publish')
    .option(
      '--inbox-prefix <subject>',
      'where answers come (default: _INBOX.<role>)',
      legalInboxPrefix,
    )
    .action(run);
}

function run(flags: PermissionFlags): void {
  const { role: wanted = ROLES, format, auth, user, inboxPrefix } = flags;
  const { namespace } = parseSettings(
    flags.namespace === undefined ? {} : { namespace: flags.namespace },
  );
  for (const subject of [...flags.publish, ...flags.subscribe]) {
    const reason = reservedReason(subject, namespace);
    if (reason !== undefined) {
      throw new MillraceError('USAGE', `The subject ${quote(subject)} ${reason}.`);
    }
  }
  if (wanted.length > 1 && (user ?? inboxPrefix) !== undefined) {
    throw new MillraceError(
      'USAGE',
      '--user and --inbox-prefix need one --role that they are for.',
    );
  }
  const grants = {
    publish: flags.publish,
    subscribe: flags.subscribe,
    invoke: flags.invoke,
    streams: flags.stream,
    delayed: flags.delayed ?? false,
  };
  const users = wanted.map((role) => ({
    role,
    user: user ?? `${namespace}-${role}`,
    ...permissionsOf(role, namespace, grants, inboxPrefix ?? inboxOf(role)),
  }));
  if (format === 'json') printJson(asClaims(users));
  else print(format === 'nsc' ? asNsc(users) : asConf(users, auth));
}

function listed(text: string): string[] {
  return text.split(',').map((each) => notEmpty(each.trim()));
}

/** For commander. */
function roles(text: string): Role[] {
  return listed(text).map((name) => {
    const role = ROLES.find((each) => each === name);
    if (role !== undefined) return role;
    throw new InvalidArgumentError(`It must be of ${ROLES.join(', ')}.`);
  });
}

function subjects(text: string): string[] {
  for (const subject of listed(text)) {
    // One that the broker could read as more than a subject ends here.
    const reason = /["'\\]/.test(subject)
      ? 'must not contain quotes or backslashes'
      : subscriptionSubjectReason(subject);
    if (reason !== undefined) throw new InvalidArgumentError(`${quote(subject)} ${reason}.`);
  }
  return listed(text);
}

function streams(text: string): string[] {
  for (const name of listed(text)) {
    const legal = !name.includes('.') && !/["'\\]/.test(name) && !publishSubjectReason(name);
    if (!legal) throw new InvalidArgumentError(`${quote(name)} is no stream’s name.`);
  }
  return listed(text);
}

function userName(text: string): string {
  if (/^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(text)) return text;
  throw new InvalidArgumentError('It must be a letter and up to 63 of A-Z a-z 0-9 _ -.');
}
