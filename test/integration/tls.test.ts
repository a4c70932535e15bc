/** TLS and mutual TLS with certificates that openssl has made, and nkeys. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nkeys } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type ConnectOptions } from '../../src/client/client.ts';
import { asConf } from '../../src/core/permission-formats.ts';
import { permissionsOf } from '../../src/core/permissions.ts';
import { isLong } from '../support/long.ts';
import { Authority, type Certificate } from '../support/certificates.ts';
import { startTestBroker } from '../support/broker.ts';
import { startConfigured, type SecuredBroker } from '../support/secured.ts';

const HERE = 'IP:127.0.0.1,DNS:localhost';
let authority: Authority;
let stranger: Authority;
let own: Certificate;
let broker: SecuredBroker;

beforeAll(() => {
  authority = new Authority();
  stranger = new Authority();
  own = authority.issue('client', HERE);
});

afterAll(async () => {
  for (const { folder } of [authority, stranger]) await rm(folder, { recursive: true });
});

/** `tls { verify: true }`: who connects needs a certificate, too. */
function tlsConf({ cert, key }: Certificate, verify = false): string {
  const files = `cert_file: "${cert}", key_file: "${key}", ca_file: "${authority.ca}"`;
  return `tls { ${files}, verify: ${verify} }`;
}

async function open(options: ConnectOptions): Promise<string> {
  const servers = broker.url.replace('nats://', 'tls://');
  await using mill = await connect({ servers, ...options });
  const { id } = await mill.publish('any.subject', {});
  return id;
}

async function code(options: ConnectOptions): Promise<string> {
  const failed = await open(options).catch((error: { code: string; message: string }) => error);
  return typeof failed === 'string' ? 'connected' : `${failed.code}: ${failed.message}`;
}

describe('a server with a certificate', () => {
  beforeAll(async () => {
    broker = await startConfigured(tlsConf(authority.issue('server', HERE)));
  });
  afterAll(async () => broker.stop());

  it('is believed when its authority is named', async () => {
    expect(await open({ tls: { ca: authority.ca } })).toBeTruthy();
  });

  it('is not believed when nobody who is trusted has signed it', async () => {
    for (const tls of [{ ca: stranger.ca }, {}]) {
      expect(await code({ tls })).toMatch(/^TLS_FAILED: .*nobody that is trusted/);
    }
  });

  it('is found by NATS_CA of the environment', async () => {
    process.env['NATS_CA'] = authority.ca;
    try {
      expect(await open({})).toBeTruthy();
    } finally {
      delete process.env['NATS_CA'];
    }
  });
});

it.each([
  ['for another host', 'DNS:elsewhere.example', 2, /another host/],
  ['that has expired', HERE, -1, /has expired/],
])('a certificate %s is refused, with the reason', async (_, names, days, why) => {
  broker = await startConfigured(tlsConf(authority.issue(`bad${days}`, names, days)));
  const said = await code({ tls: { ca: authority.ca } });
  await broker.stop();
  expect(said).toMatch(/^TLS_FAILED/);
  expect(said).toMatch(why);
});

describe('mutual TLS', () => {
  beforeAll(async () => {
    broker = await startConfigured(tlsConf(authority.issue('server', HERE), true));
  });
  afterAll(async () => broker.stop());

  it('lets in who has a certificate of the authority', async () => {
    expect(await open({ tls: { ca: authority.ca, ...own } })).toBeTruthy();
  });

  it.runIf(isLong)('keeps out who has none, or one of a stranger', async () => {
    expect(await code({ tls: { ca: authority.ca } })).toMatch(/^(TLS|CONNECTION)_FAILED/);
    const strange = stranger.issue('client', HERE);
    const said = await code({ tls: { ca: authority.ca, ...strange } });
    expect(said).toMatch(/^(TLS|CONNECTION)_FAILED/);
  });

  it('needs both files, and files that are there', async () => {
    const half = { ca: authority.ca, cert: own.cert };
    expect(await code({ tls: half })).toMatch(/^USAGE: .*needs its key/);
    const gone = { ca: join(authority.folder, 'gone.pem') };
    expect(await code({ tls: gone })).toMatch(/^USAGE: .*gone\.pem cannot be read/);
  });
});

it('tls:// never goes on without TLS', async () => {
  const plain = await startTestBroker();
  const servers = plain.url.replace('nats://', 'tls://');
  const failed = await connect({ servers }).then(
    async (mill) => mill.close(),
    (error: { code: string }) => error.code,
  );
  await plain.stop();
  expect(failed).toMatch(/^(TLS|CONNECTION)_FAILED/);
});

it('an nkey proves who its user is, and another one does not', async () => {
  const user = nkeys.createUser();
  process.env['MILLRACE_PUBLISHER_NKEY'] = user.getPublicKey();
  const permissions = permissionsOf('publisher', 'millrace', {
    publish: ['orders.>'],
    subscribe: [],
    invoke: undefined,
    streams: [],
    delayed: false,
  });
  const users = [{ role: 'publisher' as const, user: 'millrace-publisher', ...permissions }];
  broker = await startConfigured(asConf(users, 'nkey'));
  const seedFile = join(authority.folder, 'user.nk');
  await writeFile(seedFile, `${new TextDecoder().decode(user.getSeed())}\n`);
  const as = (nkey: string): ConnectOptions => ({ servers: broker.url, role: 'publisher', nkey });
  await using mill = await connect(as(seedFile));
  expect((await mill.publish('orders.new', {})).id).toBeTruthy();
  await expect(mill.publish('others.new', {})).rejects.toMatchObject({ code: 'FORBIDDEN' });
  const otherFile = join(authority.folder, 'other.nk');
  await writeFile(otherFile, new TextDecoder().decode(nkeys.createUser().getSeed()));
  await expect(connect(as(otherFile))).rejects.toMatchObject({ code: 'CONNECTION_FAILED' });
  await writeFile(otherFile, 'no seed');
  await expect(connect(as(otherFile))).rejects.toMatchObject({ code: 'USAGE' });
  await mill.close();
  await broker.stop();
});
