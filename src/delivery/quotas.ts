/** The quota of each function that this worker dispatches, and what is kept of it for the next dispatcher. */
import { Quota } from '../core/delivery/quota.ts';
import type { RateRecord } from '../core/delivery/rates.ts';
import type { FlowDefinition } from '../function/flow.ts';
import type { Cursors } from './cursors.ts';

interface Kept {
  flow: FlowDefinition;
  quota: Quota;
  /** As it was stored last. */
  stored: string;
}

export class Quotas {
  readonly #cursors: Cursors;
  readonly #kept = new Map<string, Promise<Kept>>();

  constructor(cursors: Cursors) {
    this.#cursors = cursors;
  }

  /** All sources of a function share one, until its flow control changes. Rejects where the last one's rates cannot be read. */
  async of(functionName: string, flow: FlowDefinition): Promise<Quota> {
    const before = this.#kept.get(functionName);
    if (before !== undefined && (await before).flow === flow) return (await before).quota;
    const opened = this.#open(functionName, flow);
    this.#kept.set(functionName, opened);
    opened.catch(() => this.#kept.delete(functionName));
    return (await opened).quota;
  }

  /** Nothing of it is dispatched here any more. */
  drop(functionName: string): void {
    this.#kept.delete(functionName);
  }

  /** What has changed. */
  async store(): Promise<void> {
    for (const [functionName, opening] of this.#kept) {
      const kept = await opening;
      const records = kept.quota.rates?.records(performance.now()) ?? [];
      const text = JSON.stringify(records);
      if (text === kept.stored) continue;
      await this.#cursors.putRates(functionName, moved(records, sinceEpochMs()));
      kept.stored = text;
    }
  }

  async #open(functionName: string, flow: FlowDefinition): Promise<Kept> {
    const quota = new Quota(flow);
    if (flow.rate !== undefined) {
      quota.rates?.restore(moved(await this.#cursors.rates(functionName), -sinceEpochMs()));
    }
    return { flow, quota, stored: '[]' };
  }
}

/** Dispatchers count on a clock that is never set; what they leave to others is by the calendar. */
function sinceEpochMs(): number {
  return Date.now() - performance.now();
}

function moved(records: readonly RateRecord[], byMs: number): RateRecord[] {
  return records.map(([key, count, firstMs, lastMs]) => [
    key,
    count,
    firstMs + byMs,
    lastMs + byMs,
  ]);
}
