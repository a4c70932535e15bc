/** Permissions as nats-server's configuration, nsc and JSON Web Tokens have them. */
import type { Permissions, Role } from './permissions.ts';

export interface RolePermissions extends Permissions {
  role: Role;
  /** The name of the NATS user. */
  user: string;
}

export type Authentication = 'password' | 'nkey';

/** Secrets come from the environment of nats-server, never from this text. */
export function asConf(users: readonly RolePermissions[], by: Authentication): string {
  const entries = users.map(({ user, publish, subscribe }) => {
    const variable = variableOf(user);
    const who =
      by === 'nkey'
        ? `nkey: $${variable}_NKEY`
        : `user: "${user}", password: $${variable}_PASSWORD`;
    return `    { ${who}
      permissions: {
        publish: { allow: ${list(publish)} }
        subscribe: { allow: ${list(subscribe)} }
      }
    }`;
  });
  const needed = users.map(({ user }) => `${variableOf(user)}_${by.toUpperCase()}`).join(', ');
  return `# nats-server reads these from its environment: ${needed}.
${by === 'nkey' ? '# Each is the public key of a user, which begins with U.' : '# As text of its configuration: a value in quotes, as \'"…"\', is never taken for a number.'}
authorization {
  users: [
${entries.join('\n')}
  ]
}`;
}

function list(subjects: readonly string[]): string {
  const lines = subjects.map((subject) => `          ${JSON.stringify(subject)}`);
  return `[\n${lines.join('\n')}\n        ]`;
}

/** MILLRACE_WORKER for millrace-worker. */
function variableOf(user: string): string {
  return user.replaceAll(/[^A-Za-z0-9]/g, '_').toUpperCase();
}

/** For operator mode: commands for the account that is chosen in nsc. */
export function asNsc(users: readonly RolePermissions[]): string {
  const flags = (flag: string, subjects: readonly string[]): string =>
    subjects.map((subject) => ` \\\n  ${flag} '${subject}'`).join('');
  return users
    .map(
      ({ user, publish, subscribe }) =>
        `nsc add user --name '${user}'${flags('--allow-pub', publish)}${flags('--allow-sub', subscribe)}`,
    )
    .join('\n\n');
}

/** The claims of users' tokens: what is to be signed by the account, `name` and `nats` of each. */
export function asClaims(users: readonly RolePermissions[]) {
  return users.map(({ role, user, publish, subscribe }) => ({
    role,
    name: user,
    nats: {
      type: 'user',
      version: 2,
      subs: -1,
      data: -1,
      payload: -1,
      pub: { allow: publish },
      sub: { allow: subscribe },
    },
  }));
}
