/** A broker with users, and what they may do made from what `millrace permissions` prints. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, Events, type NatsConnection } from 'nats';
import { findBroker, startBroker } from '../../src/broker/index.ts';
import type { ConnectOptions } from '../../src/client/client.ts';
import { asConf } from '../../src/core/permission-formats.ts';
import {
  inboxOf,
  permissionsOf,
  ROLES,
  type Grants,
  type Role,
} from '../../src/core/permissions.ts';
import { notePid } from './processes.ts';

const PASSWORD = 'of-tests-only';

export interface SecuredBroker {
  url: string;
  /** What `connect` takes for a user of this role. */
  as(role: Role, namespace?: string): ConnectOptions;
  raw(role: Role | 'admin', namespace?: string): Promise<NatsConnection>;
  stop(): Promise<void>;
}

/** One user of each role for each namespace, and `admin`, who may do everything. */
export async function startSecured(
  grants: Grants,
  namespaces: readonly string[] = ['millrace'],
): Promise<SecuredBroker> {
  const users = namespaces.flatMap((namespace) =>
    ROLES.map((role) => {
      const user = `${namespace}-${role}`;
      return { role, user, ...permissionsOf(role, namespace, grants) };
    }),
  );
  for (const { user } of users) {
    process.env[`${user.replaceAll('-', '_').toUpperCase()}_PASSWORD`] = JSON.stringify(PASSWORD);
  }
  const admin = `users: [\n{ user: admin, password: "${PASSWORD}" }`;
  return startConfigured(asConf(users, 'password').replace('users: [', admin));
}

export async function startConfigured(more: string, base?: string): Promise<SecuredBroker> {
  const folder = await mkdtemp(join(tmpdir(), 'millrace-secured-'));
  const configFile = join(folder, 'nats-server.conf');
  const own = await readFile(new URL('../../config/nats-server.conf', import.meta.url), 'utf8');
  await writeFile(configFile, `${base ?? own}\n${more}\n`);
  const broker = await startBroker({
    binary: await findBroker({}),
    port: 0,
    storeDir: join(folder, 'store'),
    configFile,
  });
  notePid(broker.pid);
  const urlOf = (user: string): string =>
    broker.url.replace('nats://', `nats://${user}:${PASSWORD}@`);
  return {
    url: broker.url,
    as: (role, namespace = 'millrace') => ({
      servers: urlOf(`${namespace}-${role}`),
      role,
      namespace,
    }),
    raw: async (role, namespace = 'millrace') =>
      connect({
        servers: broker.url,
        user: role === 'admin' ? role : `${namespace}-${role}`,
        pass: PASSWORD,
        ...(role === 'admin' ? {} : { inboxPrefix: inboxOf(role) }),
      }),
    async stop() {
      await broker.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Which of the subjects the broker refuses this connection. */
export async function refusedOf(
  connection: NatsConnection,
  operation: 'publish' | 'subscription',
  subjects: readonly string[],
): Promise<Set<string>> {
  const refused = new Set<string>();
  const statuses = connection.status();
  void (async () => {
    for await (const { type, permissionContext } of statuses) {
      if (type === Events.Error && permissionContext?.operation === operation) {
        refused.add(permissionContext.subject);
      }
    }
  })();
  for (const subject of subjects) {
    if (operation === 'publish') connection.publish(subject);
    else connection.subscribe(subject, { callback: () => {} });
  }
  await connection.flush();
  // What is refused comes before the flush's answer; the client tells of it a turn later.
  await new Promise((resolve) => setImmediate(resolve));
  return refused;
}
