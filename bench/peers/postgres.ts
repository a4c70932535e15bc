/**
 * PostgreSQL with its defaults (fsync on), started for the benchmark over a socket file: the same counters, changed in one
 * transaction each through `pg`. `undefined` where it is not installed.
 */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { note } from '../print.ts';
import { stopProcess } from '../stop-process.ts';

export const WAYS = ['SERIALIZABLE', 'row locks', 'stored function'] as const;
export type Way = (typeof WAYS)[number];

export interface Postgres {
  /** Adds one to each of the keys, in one transaction; tried again when it is refused. Rejects after many times. */
  bump(way: Way, keys: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

export interface Client {
  query(text: string, values?: unknown[]): Promise<{ rows: { value: number }[] }>;
  release(): void;
}
export interface Pool {
  connect(): Promise<Client>;
  query: Client['query'];
  end(): Promise<void>;
}

/** Installed for the benchmarks only, without types. */
const PACKAGE: string = 'pg';
/** Transactions that are open at once: more of them make it slower. */
export const CONNECTIONS = 32;
export const USER = 'bench';
export const DATABASE = 'postgres';
const MAX_ATTEMPTS = 200;
const START_MS = 20_000;
const REFUSED = new Set(['40001', '40P01']);
const FUNCTION = `create function bump(keys text[]) returns void language plpgsql as $$
  declare each text; begin
    foreach each in array (select array_agg(k order by k) from unnest(keys) k) loop
      update counters set value = value + 1 where id = each;
    end loop;
  end $$`;

export async function startPostgres(counters: number): Promise<Postgres | undefined> {
  const server = await startServer();
  if (server === undefined) return undefined;
  const { pool } = server;
  await createCounters(pool, 'counter-', counters);
  await pool.query(FUNCTION);
  return {
    bump: async (way, keys) => bump(pool, way, keys),
    stop: async () => server.stop(),
  };
}

export interface Server {
  /** The folder of its socket file: what clients name as their host. */
  host: string;
  pool: Pool;
  stop(): Promise<void>;
}

export async function startServer(): Promise<Server | undefined> {
  const folder = binaries();
  if (folder === undefined) {
    note('PostgreSQL is not installed, going on without');
    return undefined;
  }
  let pg: { default: { Pool: new (options: object) => Pool } };
  try {
    pg = (await import(PACKAGE)) as typeof pg;
  } catch {
    note('the package pg is not installed (bench/peers), going on without PostgreSQL');
    return undefined;
  }
  const host = await mkdtemp(join(tmpdir(), 'millrace-bench-postgres-'));
  const user = await ownerOf(host);
  const data = join(host, 'data');
  const arguments_ = ['-D', data, '-A', 'trust', '-U', USER];
  await promisify(execFile)(join(folder, 'initdb'), arguments_, { ...user, cwd: host });
  const settings = ['listen_addresses=', `unix_socket_directories=${host}`];
  const server = spawn(
    join(folder, 'postgres'),
    ['-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    { ...user, cwd: host, stdio: 'ignore' },
  );
  const pool = new pg.default.Pool({ host, user: USER, database: DATABASE, max: CONNECTIONS });
  await ready(pool);
  return { host, pool, stop: async () => stop(pool, server, host) };
}

export async function createCounters(pool: Pool, prefix: string, count: number): Promise<void> {
  await pool.query('create table counters (id text primary key, value int not null)');
  await pool.query(
    'insert into counters select $1 || n, 0 from generate_series(0, $2::int - 1) n',
    [prefix, count],
  );
}

async function bump(pool: Pool, way: Way, keys: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      if (way === 'stored function') await pool.query('select bump($1)', [keys]);
      else await inTransaction(pool, way, keys);
      return;
    } catch (error) {
      const refused = REFUSED.has((error as { code?: string }).code ?? '');
      if (!refused || attempt >= MAX_ATTEMPTS) throw error;
    }
  }
}

/** As an application does it: read, add one in the program, write. */
async function inTransaction(pool: Pool, way: Way, keys: readonly string[]): Promise<void> {
  const client = await pool.connect();
  const [begin, lock] =
    way === 'SERIALIZABLE'
      ? ['begin isolation level serializable', '']
      : ['begin', ' order by id for update'];
  try {
    await client.query(begin);
    // The ids are the benchmark's own.
    const ids = keys.map((key) => `'${key}'`).join();
    await client.query(`select value from counters where id in (${ids})${lock}`);
    for (const key of [...keys].sort()) {
      await client.query('update counters set value = value + 1 where id = $1', [key]);
    }
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

function binaries(): string | undefined {
  const versions = '/usr/lib/postgresql';
  const installed = existsSync(versions)
    ? readdirSync(versions).map((version) => join(versions, version, 'bin'))
    : [];
  return [...(process.env['PATH'] ?? '').split(':'), ...installed].find((folder) =>
    existsSync(join(folder, 'initdb')),
  );
}

/** PostgreSQL refuses to run as root: then as nobody. */
async function ownerOf(folder: string): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const uid = Number(execFileSync('id', ['-u', 'nobody'], { encoding: 'utf8' }));
  const gid = Number(execFileSync('id', ['-g', 'nobody'], { encoding: 'utf8' }));
  await chown(folder, uid, gid);
  await chmod(folder, 0o700);
  return { uid, gid };
}

async function ready(pool: Pool): Promise<void> {
  for (const untilMs = performance.now() + START_MS; ; await delay(50)) {
    try {
      await pool.query('select 1');
      return;
    } catch (error) {
      if (performance.now() >= untilMs) throw error;
    }
  }
}

async function stop(pool: Pool, server: ChildProcess, store: string): Promise<void> {
  await pool.end();
  await stopProcess(server);
  await rm(store, { recursive: true, force: true });
}
