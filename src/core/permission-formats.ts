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

/**
 * For operator mode: commands for the account that is chosen in nsc. The permissions are a scope of a signing key of the account, not part
 * of users' tokens: a worker's would be larger than the line in which a client says who it is may be (`max_control_line`, 4 KiB).
 */
export function asNsc(users: readonly RolePermissions[]): string {
  const flags = (flag: string, subjects: readonly string[]): string =>
    subjects.map((subject) => ` \\\n  ${flag} '${subject}'`).join('');
  return users
    .map(
      ({ user, publish, subscribe }) =>
        `nsc edit signing-key --sk generate --role '${user}'${flags('--allow-pub', publish)}${flags('--allow-sub', subscribe)}\nnsc add user --name '${user}' -K '${user}'`,
    )
    .join('\n\n');
}

/**
 * The same for tools of one's own, for each role: `scope`, with the public key added as `key`, belongs into the account's `signing_keys`;
 * `nats` is the claims of users' tokens, which that key signs, with the account added as `issuer_account`.
 */
export function asClaims(users: readonly RolePermissions[]) {
  return users.map(({ role, user, publish, subscribe }) => ({
    role,
    name: user,
    scope: {
      kind: 'user_scope',
      role: user,
      template: {
        subs: -1,
        data: -1,
        payload: -1,
        pub: { allow: publish },
        sub: { allow: subscribe },
      },
    },
    nats: { type: 'user', version: 2 },
  }));
}
