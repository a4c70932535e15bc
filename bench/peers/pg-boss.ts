/**
 * pg-boss 10 on PostgreSQL with its defaults (fsync on): the same events, each handled by a transaction that adds one to its counter
 * and completes the job, which is how effects happen once there. `undefined` where it is not installed.
 */
import { note } from '../print.ts';
import {
  CONNECTIONS,
  createCounters,
  DATABASE,
  startServer,
  USER,
  type Client,
} from './postgres.ts';

interface Job {
  id: string;
  data: { key: string };
}
interface Options {
  db: { executeSql(text: string, values?: unknown[]): Promise<{ rows: unknown[] }> };
}
interface Boss {
  on(event: 'error', listener: (error: Error) => void): void;
  start(): Promise<unknown>;
  stop(options: object): Promise<void>;
  createQueue(name: string): Promise<void>;
  insert(jobs: object[]): Promise<void>;
  send(name: string, data: object): Promise<unknown>;
  fetch(name: string, options: object): Promise<Job[]>;
  complete(name: string, id: string, data: object, options: Options): Promise<void>;
}

/** Installed for the benchmarks only. */
const PACKAGE: string = 'pg-boss';
const QUEUE = 'bench';
const FILL_BATCH = 1_000;
const FETCH_BATCH = 200;

export interface PgBossTimes {
  /** From the first job fetched to the last one completed; milliseconds. */
  backlogMs: number;
  /** Jobs sent, each awaited; milliseconds. */
  publishMs: number;
}

/** Two processes would be no faster: PostgreSQL has both cores to do. */
export async function runPgBoss(
  keys: number,
  events: readonly { key: string; pad: string }[],
): Promise<PgBossTimes | undefined> {
  let Boss: new (options: object) => Boss;
  try {
    ({ default: Boss } = (await import(PACKAGE)) as { default: typeof Boss });
  } catch {
    note('the package pg-boss is not installed (bench/peers), going on without');
    return undefined;
  }
  const server = await startServer();
  if (server === undefined) return undefined;
  const { host, pool } = server;
  try {
    await createCounters(pool, 'k', keys);
    const boss = new Boss({ host, user: USER, database: DATABASE, max: CONNECTIONS });
    boss.on('error', (error) => note(`pg-boss: ${error.message}`));
    await boss.start();
    await boss.createQueue(QUEUE);
    const jobs = events.map((data) => ({ name: QUEUE, data }));
    for (let first = 0; first < jobs.length; first += FILL_BATCH) {
      await boss.insert(jobs.slice(first, first + FILL_BATCH));
    }
    const inTransaction = async (job: Job): Promise<void> => {
      const client: Client = await pool.connect();
      const db = { executeSql: client.query.bind(client) };
      await client.query('begin');
      await client.query('update counters set value = value + 1 where id = $1', [job.data.key]);
      await boss.complete(QUEUE, job.id, {}, { db });
      await client.query('commit');
      client.release();
    };
    const startMs = performance.now();
    await drain(boss, events.length, inTransaction);
    const drainedMs = performance.now();
    const left = [...events];
    const publish = async (): Promise<void> => {
      for (let event = left.pop(); event !== undefined; event = left.pop()) {
        await boss.send(QUEUE, event);
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, publish));
    const publishMs = performance.now() - drainedMs;
    const { rows } = await pool.query('select sum(value)::int as value from counters');
    if (rows[0]?.value !== events.length) throw new Error('pg-boss: counters are wrong');
    await boss.stop({ graceful: false, wait: true });
    return { backlogMs: drainedMs - startMs, publishMs };
  } finally {
    await server.stop();
  }
}

/** Fetches ahead while jobs run, so that none of the connections waits. */
async function drain(
  boss: Boss,
  count: number,
  handle: (job: Job) => Promise<void>,
): Promise<void> {
  let done = 0;
  let next = boss.fetch(QUEUE, { batchSize: FETCH_BATCH });
  while (done < count) {
    const jobs = await next;
    next = boss.fetch(QUEUE, { batchSize: FETCH_BATCH });
    await Promise.all(jobs.map(handle));
    done += jobs.length;
  }
  await next;
}
