/** nats-server in operator mode, with signing keys and users as `millrace permissions --format json` prints them. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credsAuthenticator, connect as connectRaw, nkeys } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, defineFunction, type ConnectOptions } from 'millrace';
import { asClaims } from '../../src/core/permission-formats.ts';
import { inboxOf, NO_GRANTS, permissionsOf, ROLES, type Role } from '../../src/core/permissions.ts';
import { refusedOf, startConfigured, type SecuredBroker } from '../support/secured.ts';
import { until } from '../support/wait.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const GRANTS = { ...NO_GRANTS, publish: ['orders.>'] };
const UNLIMITED = { subs: -1, data: -1, payload: -1 };
const OF_ACCOUNTS = {
  ...UNLIMITED,
  imports: -1,
  exports: -1,
  wildcards: true,
  conn: -1,
  leaf: -1,
  mem_storage: -1,
  disk_storage: -1,
  streams: -1,
  consumer: -1,
};

type KeyPair = ReturnType<typeof nkeys.createUser>;

/** As nsc makes them. */
function token(by: KeyPair, of: KeyPair, name: string, nats: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const [iss, sub] = [by.getPublicKey(), of.getPublicKey()];
  const claims = {
    jti: `${name}-${sub}`,
    iat: Math.floor(Date.now() / 1_000),
    iss,
    sub,
    name,
    nats,
  };
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part(claims)}`;
  return `${signed}.${Buffer.from(by.sign(Buffer.from(signed))).toString('base64url')}`;
}

let folder: string;
let broker: SecuredBroker;
let worker: TestWorker;
const seen: unknown[] = [];

async function writeCredentials(name: string, jwt: string, user: KeyPair): Promise<string> {
  const file = join(folder, `${name}.creds`);
  const seed = Buffer.from(user.getSeed()).toString();
  const part = (what: string, text: string): string =>
    `-----BEGIN ${what}-----\n${text}\n------END ${what}------\n`;
  await writeFile(file, `${part('NATS USER JWT', jwt)}\n${part('USER NKEY SEED', seed)}`);
  return file;
}

const as = (role: Role): ConnectOptions => ({
  servers: broker.url,
  credentials: join(folder, `${role}.creds`),
  role,
});

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-operator-'));
  const [operator, account, system] = [
    nkeys.createOperator(),
    nkeys.createAccount(),
    nkeys.createAccount(),
  ];
  const users = ROLES.map((role) => {
    const permissions = permissionsOf(role, 'millrace', GRANTS);
    return { role, user: `own-${role}`, ...permissions };
  });
  const roles = asClaims(users).map((claims) => ({ ...claims, key: nkeys.createAccount() }));
  const signing_keys = roles.map(({ scope, key }) => ({ ...scope, key: key.getPublicKey() }));
  const accounts = [
    [account, { limits: OF_ACCOUNTS, signing_keys }],
    [system, { limits: UNLIMITED }],
  ] as const;
  const preload = accounts.map(([pair, claims]) => {
    const signed = token(operator, pair, 'account', { type: 'account', version: 2, ...claims });
    return `${pair.getPublicKey()}: ${signed}`;
  });
  const ofOperator = { type: 'operator', version: 2 };
  broker = await startConfigured(
    [
      `operator: ${token(operator, operator, 'own', ofOperator)}`,
      `system_account: ${system.getPublicKey()}`,
      'resolver: MEMORY',
      `resolver_preload: {\n${preload.join('\n')}\n}`,
    ].join('\n'),
  );
  for (const { role, name, nats, key } of roles) {
    const user = nkeys.createUser();
    const claims = { ...nats, issuer_account: account.getPublicKey() };
    await writeCredentials(role, token(key, user, name, claims), user);
  }
  const sum = defineFunction({
    name: 'sum',
    on: 'orders.placed',
    handler: async ({ data }, ctx) => {
      await ctx.state('orders').set('last', data);
      seen.push(data);
      return 3;
    },
  });
  worker = await startTestWorker(broker.url, [sum], { partitions: 2 }, undefined, as('worker'));
});
afterAll(async () => {
  await worker.stop();
  await broker.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('in operator mode', () => {
  it('each role does its work', async () => {
    await using publisher = await connect(as('publisher'));
    await publisher.publish('orders.placed', { n: 1 });
    await until('it is handled', () => seen.length === 1);
    await using invoker = await connect(as('invoker'));
    expect(await invoker.invoke('sum', { n: 2 })).toBe(3);
    await using inspector = await connect(as('inspector'));
    expect((await inspector.inspect.state('orders', 'last')).value).toEqual({ n: 2 });
    expect(await inspector.inspect.workers()).toHaveLength(1);
  });

  it('and nothing else', async () => {
    await using publisher = await connect(as('publisher'));
    await expect(publisher.publish('invoices.placed', {})).rejects.toMatchObject({
      code: 'FORBIDDEN',
    });
    const raw = await connectRaw({
      servers: broker.url,
      authenticator: credsAuthenticator(await readFile(join(folder, 'publisher.creds'))),
      inboxPrefix: inboxOf('publisher'),
    });
    const forged = ['millrace.log.0', 'millrace.tx.commit', '$JS.API.STREAM.DELETE.millrace-log'];
    expect(await refusedOf(raw, 'publish', forged)).toEqual(new Set(forged));
    await raw.close();
  });

  it('nobody comes in whose token another account has signed', async () => {
    const stranger = nkeys.createAccount();
    const user = nkeys.createUser();
    const jwt = token(stranger, user, 'stranger', { type: 'user', version: 2, ...UNLIMITED });
    const file = await writeCredentials('stranger', jwt, user);
    await expect(connect({ servers: broker.url, credentials: file })).rejects.toMatchObject({
      code: 'CONNECTION_FAILED',
    });
  });
});
