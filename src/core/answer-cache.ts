/**
 * Answers of one function that are kept for a while. Misses of one key are one call. Pure: times come in.
 *
 * - A1  What is dropped is not given again: neither is an answer whose call was under way then kept.
 * - A2  At most `maxEntries` answers and `maxBytes` are kept; those that were not used for the longest time go first.
 * - A3  Who waits for a call of somebody else's gets its answer, whatever it is; failures of the platform are never kept.
 */
import { LRUCache } from 'lru-cache';
import { MillraceError } from './errors.ts';
import type { Encoded } from './payload.ts';

/** All in milliseconds but `maxEntries`. */
export interface CacheRules {
  ttlMs: number;
  /** So much longer an answer is given while a new one is fetched. */
  staleMs: number;
  /** So long a failure of the function is an answer; 0: not at all. */
  errorMs: number;
  maxEntries: number;
}

export type Answer = { readonly encoded: Encoded } | { readonly error: MillraceError };

export interface CacheCounts {
  /** Answered without a call. */
  hits: number;
  /** Of these, by an answer that was out of date and fetched anew behind it. */
  stale: number;
  misses: number;
  /** Waited for a call that was under way for the same key. */
  collapsed: number;
  /** Entries that were made wrong. */
  dropped: number;
}

interface Entry {
  answer: Answer;
  freshUntilMs: number;
  staleUntilMs: number;
}

/** Of an entry beside its key and its answer. */
const ENTRY_BYTES = 128;
/** The function's own: trying again would give the same. */
const KEPT_ERRORS = new Set(['FUNCTION_FAILED', 'INVALID_INPUT']);

export class AnswerCache {
  readonly rules: CacheRules;
  readonly counts: CacheCounts = { hits: 0, stale: 0, misses: 0, collapsed: 0, dropped: 0 };
  readonly #entries: LRUCache<string, Entry>;
  readonly #pending = new Map<string, Promise<Answer>>();
  readonly #now: () => number;
  /** Counts what was dropped (A1). */
  #generation = 0;

  constructor(rules: CacheRules, maxBytes: number, now: () => number) {
    this.rules = rules;
    this.#now = now;
    this.#entries = new LRUCache({
      max: rules.maxEntries,
      maxSize: maxBytes,
      sizeCalculation: ({ answer }, key) => ENTRY_BYTES + 2 * key.length + sizeOf(answer),
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** `run` is called where there is nothing to give, or something out of date; it never rejects. */
  get(key: string, run: () => Promise<Answer>): Answer | Promise<Answer> {
    const now = this.#now();
    const entry = this.#entries.get(key);
    if (entry !== undefined && now < entry.staleUntilMs) {
      this.counts.hits += 1;
      if (now >= entry.freshUntilMs) {
        this.counts.stale += 1;
        if (!this.#pending.has(key)) void this.#fetch(key, run);
      }
      return entry.answer;
    }
    const pending = this.#pending.get(key);
    if (pending !== undefined) {
      this.counts.collapsed += 1;
      return pending;
    }
    this.counts.misses += 1;
    return this.#fetch(key, run);
  }

  /** Those entries, or all. */
  drop(keys?: Iterable<string>): void {
    this.#generation += 1;
    // Who asks from now on must not get what was asked for before.
    if (keys === undefined) {
      this.counts.dropped += this.#entries.size;
      this.#entries.clear();
      this.#pending.clear();
      return;
    }
    for (const key of keys) {
      if (this.#entries.delete(key)) this.counts.dropped += 1;
      this.#pending.delete(key);
    }
  }

  #fetch(key: string, run: () => Promise<Answer>): Promise<Answer> {
    const generation = this.#generation;
    const fetched: Promise<Answer> = run().then((answer) => {
      if (this.#pending.get(key) === fetched) this.#pending.delete(key);
      if (generation === this.#generation) this.#keep(key, answer);
      return answer;
    });
    this.#pending.set(key, fetched);
    return fetched;
  }

  #keep(key: string, answer: Answer): void {
    const { ttlMs, staleMs, errorMs } = this.rules;
    const now = this.#now();
    if ('encoded' in answer) {
      const freshUntilMs = now + ttlMs;
      this.#entries.set(key, { answer, freshUntilMs, staleUntilMs: freshUntilMs + staleMs });
    } else if (errorMs > 0 && KEPT_ERRORS.has(answer.error.code) && !this.#isStale(key, now)) {
      const { code, message, retryable, details } = answer.error;
      // Without its cause, which is anything that a handler threw.
      const error = new MillraceError(code, message, { retryable, details });
      const untilMs = now + errorMs;
      this.#entries.set(key, { answer: { error }, freshUntilMs: untilMs, staleUntilMs: untilMs });
    }
  }

  /** There is an old answer, which is better than none. */
  #isStale(key: string, now: number): boolean {
    return now < (this.#entries.peek(key)?.staleUntilMs ?? 0);
  }
}

function sizeOf(answer: Answer): number {
  return 'encoded' in answer
    ? answer.encoded.body.length
    : 2 * JSON.stringify(answer.error.toBody()).length;
}
