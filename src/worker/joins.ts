import type { Bus } from '../bus/connection.ts';
import type { Settings } from '../core/settings.ts';
import { decodeRef, LocalTransaction, RemoteTransaction, type Joinable } from '../state/join.ts';
import type { Transactions } from '../state/transactions.ts';
import type { Incoming } from './invocation.ts';

/** The transactions of callers: on this worker, or on another one. */
export class Joins {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #workerId: string;
  readonly #own: () => Transactions | undefined;

  constructor(bus: Bus, settings: Settings, workerId: string, own: () => Transactions | undefined) {
    this.#bus = bus;
    this.#settings = settings;
    this.#workerId = workerId;
    this.#own = own;
  }

  /** The one that the call takes part in; undefined for one that has its own. */
  of({ transaction, timeoutMs = 0 }: Incoming): Joinable | undefined {
    const ref = decodeRef(transaction);
    if (ref === undefined) return undefined;
    const own = ref.worker === this.#workerId && this.#own()?.attempts.get(ref.tx);
    if (own) return new LocalTransaction(own);
    const deadlineMs = performance.now() + timeoutMs;
    return new RemoteTransaction(this.#bus, this.#settings, ref, deadlineMs);
  }
}
