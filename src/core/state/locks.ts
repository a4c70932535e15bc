/**
 * The locks of one partition's keys and the chains of tentative values behind them: section "Locks" of SPEC.md.
 * Generic in who holds a lock, so that it knows nothing of transactions but their age.
 */
import { isOlder, type Age } from './age.ts';
import type { LockMode } from './messages.ts';

export interface Holder {
  readonly age: Age;
}

interface Waiter<Owner> {
  owner: Owner;
  mode: LockMode;
}

/** A value that is written and not yet committed, by a transaction that may still abort. */
export interface Tentative<Owner> {
  owner: Owner;
  value: string | null;
  version: number;
}

interface KeyState<Owner> {
  holders: Map<Owner, LockMode>;
  /** Oldest first. */
  queue: Waiter<Owner>[];
  /** In the order in which they were prepared, which is the order in which they commit. */
  chain: Tentative<Owner>[];
}

export type LockAnswer<Owner> =
  | { granted: true }
  /** `behind` holds the key or waits before; `wounds` are those of the holders that are younger. */
  | { granted: false; behind: Owner; wounds: Owner[]; asksAgain: boolean };

/** Only keys that are in use stand in here. */
export class LockTable<Owner extends Holder> {
  private readonly keys = new Map<string, KeyState<Owner>>();
  private readonly onGrant: (owner: Owner, key: string, mode: LockMode) => void;

  /** `onGrant` is told of every grant to one that has waited. */
  constructor(onGrant: (owner: Owner, key: string, mode: LockMode) => void) {
    this.onGrant = onGrant;
  }

  get size(): number {
    return this.keys.size;
  }

  /** Asking again for what one has, or waits for, changes nothing; S can become X. */
  request(owner: Owner, key: string, mode: LockMode): LockAnswer<Owner> {
    const state = this.stateOf(key);
    const held = state.holders.get(owner);
    if (held === 'exclusive' || held === mode) return { granted: true };
    const waiting = state.queue.find((waiter) => waiter.owner === owner);
    if (waiting !== undefined) {
      if (mode === 'exclusive') waiting.mode = mode;
      return { ...this.queued(state, owner, waiting.mode), asksAgain: true };
    }
    const at = placeOf(state.queue, owner);
    if (at === 0 && compatible(state.holders, owner, mode)) {
      state.holders.set(owner, mode);
      return { granted: true };
    }
    state.queue.splice(at, 0, { owner, mode });
    return { ...this.queued(state, owner, mode), asksAgain: false };
  }

  modeOf(owner: Owner, key: string): LockMode | undefined {
    return this.keys.get(key)?.holders.get(owner);
  }

  /** Frees a lock or leaves the queue. */
  free(owner: Owner, key: string): void {
    const state = this.keys.get(key);
    if (state === undefined) return;
    state.holders.delete(owner);
    const at = state.queue.findIndex((waiter) => waiter.owner === owner);
    if (at >= 0) state.queue.splice(at, 1);
    this.advance(key, state);
  }

  tail(key: string): Tentative<Owner> | undefined {
    return this.keys.get(key)?.chain.at(-1);
  }

  push(key: string, tentative: Tentative<Owner>): void {
    this.stateOf(key).chain.push(tentative);
  }

  /** The owner's tentative value has become the committed one, or nothing. */
  settle(owner: Owner, key: string): void {
    const state = this.keys.get(key);
    if (state === undefined) return;
    const at = state.chain.findIndex((tentative) => tentative.owner === owner);
    if (at >= 0) state.chain.splice(at, 1);
    this.dropUnused(key, state);
  }

  /** How many wait for the key or have written it tentatively. */
  contention(key: string): number {
    const state = this.keys.get(key);
    return state === undefined ? 0 : state.queue.length + state.chain.length;
  }

  holderOf(key: string): Owner | undefined {
    const state = this.keys.get(key);
    return state?.holders.keys().next().value ?? state?.chain.at(-1)?.owner;
  }

  private queued(
    state: KeyState<Owner>,
    owner: Owner,
    mode: LockMode,
  ): { granted: false; behind: Owner; wounds: Owner[] } {
    const blocking = [...state.holders].filter(
      ([holder, held]) => holder !== owner && !(held === 'shared' && mode === 'shared'),
    );
    const wounds = blocking
      .map(([holder]) => holder)
      .filter((holder) => isOlder(owner.age, holder.age));
    const before =
      state.queue[Math.max(0, state.queue.findIndex((one) => one.owner === owner) - 1)];
    const behind = blocking[0]?.[0] ?? (before as Waiter<Owner>).owner;
    return { granted: false, behind, wounds };
  }

  private advance(key: string, state: KeyState<Owner>): void {
    for (;;) {
      const next = state.queue[0];
      if (next === undefined || !compatible(state.holders, next.owner, next.mode)) break;
      state.queue.shift();
      state.holders.set(next.owner, next.mode);
      this.onGrant(next.owner, key, next.mode);
    }
    this.dropUnused(key, state);
  }

  private stateOf(key: string): KeyState<Owner> {
    let state = this.keys.get(key);
    if (state === undefined) {
      state = { holders: new Map(), queue: [], chain: [] };
      this.keys.set(key, state);
    }
    return state;
  }

  private dropUnused(key: string, state: KeyState<Owner>): void {
    if (state.holders.size + state.queue.length + state.chain.length === 0) this.keys.delete(key);
  }
}

function placeOf<Owner extends Holder>(queue: readonly Waiter<Owner>[], owner: Owner): number {
  const at = queue.findIndex((waiter) => isOlder(owner.age, waiter.owner.age));
  return at < 0 ? queue.length : at;
}

function compatible<Owner>(
  holders: ReadonlyMap<Owner, LockMode>,
  owner: Owner,
  mode: LockMode,
): boolean {
  for (const [holder, held] of holders) {
    if (holder !== owner && (mode === 'exclusive' || held === 'exclusive')) return false;
  }
  return true;
}
