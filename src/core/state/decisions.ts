/** Commits that somebody may still ask for: until all have them in their logs, or nobody can ask any more (SPEC.md). */
import type { LogQueue } from './log-queue.ts';
import type { LogRecord } from './messages.ts';
import type { PartitionLimits, PartitionPorts } from './ports.ts';

export interface DecisionFacts {
  coordinator: string;
  /** Participants that have not said yet that they have it in their logs. */
  writers: readonly number[];
  /** What is not published yet. */
  emits: readonly Uint8Array[];
}

interface Decision {
  coordinator: string;
  writers: Set<number>;
  emits: readonly Uint8Array[];
  coordinatorEnded: boolean;
  /** An `end` record is to follow: without it each new owner would remind the writers, or publish, again. */
  logged: boolean;
  sinceMs: number;
  remindedAtMs: number;
}

export class Decisions {
  private readonly map = new Map<string, Decision>();
  private readonly replayed = new Set<string>();
  private readonly home: number;
  private readonly limits: PartitionLimits;
  private readonly queue: LogQueue;

  constructor(home: number, limits: PartitionLimits, queue: LogQueue) {
    this.home = home;
    this.limits = limits;
    this.queue = queue;
  }

  get size(): number {
    return this.map.size;
  }

  /** Without those that were read from the log, of which there may be many: they must not keep new ones out. */
  get own(): number {
    return this.map.size - this.replayed.size;
  }

  /** Those that some participant has not confirmed. */
  get open(): number {
    return [...this.map.values()].filter(({ writers }) => writers.size > 0).length;
  }

  has(tx: string): boolean {
    return this.map.has(tx);
  }

  add(tx: string, { coordinator, writers, emits }: DecisionFacts): void {
    this.map.set(tx, {
      coordinator,
      writers: new Set(writers),
      emits,
      coordinatorEnded: false,
      logged: writers.length > 0 || emits.length > 0,
      sinceMs: 0,
      remindedAtMs: 0,
    });
  }

  /** From the log or a snapshot. */
  replay(tx: string, facts: DecisionFacts): void {
    this.add(tx, facts);
    this.replayed.add(tx);
  }

  /** Tells the participants, and publishes what was emitted; again after each takeover. */
  announce(tx: string, ports: PartitionPorts, nowMs: number): void {
    const decision = this.map.get(tx);
    if (decision === undefined) return;
    decision.sinceMs = nowMs;
    this.remind(tx, decision, ports, nowMs);
    if (decision.emits.length > 0) ports.publish(tx, decision.emits, this.replayed.has(tx));
  }

  announceAll(ports: PartitionPorts, nowMs: number): void {
    for (const tx of this.map.keys()) this.announce(tx, ports, nowMs);
  }

  /** `from`: the participant; undefined for the coordinator. */
  ended(tx: string, from: number | undefined): void {
    const decision = this.map.get(tx);
    if (decision === undefined) return;
    if (from === undefined) decision.coordinatorEnded = true;
    else decision.writers.delete(from);
    this.forgetIfDone(tx, decision);
  }

  published(tx: string): void {
    const decision = this.emptied(tx);
    if (decision === undefined) return;
    this.forgetIfDone(tx, decision);
    // Until its end, which may be long in coming, the next owner would publish all of it again.
    if (this.map.has(tx)) this.queue.enqueue({ kind: 'published', tx });
  }

  /** Nothing of it is to be published any more. */
  emptied(tx: string): Decision | undefined {
    const decision = this.map.get(tx);
    if (decision !== undefined) decision.emits = [];
    return decision;
  }

  tick(ports: PartitionPorts, nowMs: number): void {
    const { queryAfterMs, keepOutcomeMs } = this.limits;
    for (const [tx, decision] of this.map) {
      if (nowMs - decision.sinceMs >= keepOutcomeMs) decision.coordinatorEnded = true;
      if (nowMs - decision.remindedAtMs >= queryAfterMs) this.remind(tx, decision, ports, nowMs);
      this.forgetIfDone(tx, decision);
    }
  }

  forget(tx: string): void {
    this.map.delete(tx);
    this.replayed.delete(tx);
  }

  /** For a snapshot: as records without their writes. */
  records(): LogRecord[] {
    return [...this.map].map(([tx, { coordinator, writers, emits }]) => ({
      kind: 'decide' as const,
      tx,
      coordinator,
      writers: [...writers],
      writes: [],
      emits,
    }));
  }

  clear(): void {
    this.map.clear();
    this.replayed.clear();
  }

  private remind(tx: string, decision: Decision, ports: PartitionPorts, nowMs: number): void {
    decision.remindedAtMs = nowMs;
    for (const partition of decision.writers) {
      ports.toPartition(partition, { kind: 'commit', tx, home: this.home });
    }
  }

  private forgetIfDone(tx: string, decision: Decision): void {
    const { writers, coordinatorEnded, emits, logged } = decision;
    if (writers.size > 0 || !coordinatorEnded || emits.length > 0) return;
    this.forget(tx);
    if (logged) this.queue.enqueue({ kind: 'end', tx });
  }
}
