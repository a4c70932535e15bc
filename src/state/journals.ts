/**
 * The journal of this worker, and what it may do to those of others: SPEC.md, "Ownership". One that was sealed, or of which an
 * append's fate is unknown, is followed by another.
 */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { LogStreams } from '../bus/log-streams.ts';
import { MillraceError } from '../core/errors.ts';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import type { Settings } from '../core/settings.ts';
import type { Position } from '../core/state/claim.ts';
import { emptyJournal, Journal, sealJournal } from '../core/state/journal.ts';
import type { Cluster } from './cluster.ts';

export interface JournalsOptions {
  settings: Settings;
  log: Logger;
  workerId: string;
  streams: LogStreams;
  cluster: Cluster;
}

/** A worker that goes on writing is quicker most times. */
const MAX_SEAL_ATTEMPTS = 50;
/** A worker that is there, and does not let go of a partition however often it is asked, loses all. */
const MAX_REFUSALS = 20;

/** The worker whose journal it is. */
export function workerOf(journal: string): string {
  return journal.slice(0, journal.lastIndexOf('-'));
}

export class Journals {
  readonly #options: JournalsOptions;
  #current: Journal | undefined;
  #count = 0;
  readonly #refusals = new Map<string, number>();

  constructor(options: JournalsOptions) {
    this.#options = options;
  }

  /** One that can be written to. */
  current(): Journal {
    if (this.#current !== undefined && this.#current.ended === undefined) return this.#current;
    const { streams, settings, workerId } = this.#options;
    this.#count += 1;
    const id = `${workerId}-${this.#count}`;
    this.#current = new Journal(
      id,
      randomNonce(),
      {
        log: streams.journal(id),
        claims: (partition) => streams.claims(partition),
        now: () => performance.now(),
        soon: (task) => void setImmediate(task),
      },
      settings,
    );
    return this.#current;
  }

  /** Nothing waits for a flush. */
  get quiet(): boolean {
    return this.#current?.quiet ?? true;
  }

  flush(): void {
    this.#current?.flush(true);
  }

  /** `released`: its worker has said that it does not own the partition. Throws UNAVAILABLE while the worker is there otherwise. */
  async seal(id: string, released: boolean): Promise<Position> {
    const { streams, workerId, log } = this.#options;
    const worker = workerOf(id);
    if (!released && worker !== workerId && !(await this.#mayBeSealed(id))) {
      throw new MillraceError('UNAVAILABLE', `Worker ${worker} has not let go.`);
    }
    const position = await sealJournal(streams.journal(id), randomNonce(), MAX_SEAL_ATTEMPTS);
    log.debug({ journal: id }, `journal ${id} is sealed`);
    return position;
  }

  /** Removes what no claim names any more. */
  empty(ids: readonly string[]): void {
    const { streams, log } = this.#options;
    // All that there may be: this worker need not have heard yet of partitions that have come lately.
    const claims = Array.from({ length: MAX_PARTITIONS }, (_, each) => streams.claims(each));
    for (const id of ids) {
      // It is tried again when the next partition needs it no longer.
      emptyJournal(id, randomNonce(), streams.journal(id), claims).catch((error: unknown) => {
        log.debug({ err: error }, `journal ${id} was not emptied`);
      });
    }
  }

  /** Nothing is written any more: others may empty it. */
  async close(): Promise<void> {
    const journal = this.#current;
    journal?.end('the worker stops');
    if (journal === undefined || journal.position.index === 0) return;
    const { streams } = this.#options;
    await sealJournal(streams.journal(journal.id), randomNonce(), 1).catch(() => {});
  }

  async #mayBeSealed(id: string): Promise<boolean> {
    if (await this.#options.cluster.isGone(workerOf(id))) return true;
    const refusals = (this.#refusals.get(id) ?? 0) + 1;
    this.#refusals.set(id, refusals);
    return refusals > MAX_REFUSALS;
  }
}

function randomNonce(): bigint {
  return randomBytes(8).readBigUInt64BE();
}
