/** JetStream as the logs and snapshots see it: a fence on each subject, answers that are late or lost, trimming. */
import type { SnapshotPointer } from '../../src/core/state/claim.ts';
import type { LogPort, SnapshotPort } from '../../src/core/state/log-port.ts';
import { Random } from '../support/random.ts';
import type { Actor, Clock } from './clock.ts';
import { CALM, type Plan } from './plan.ts';

type StoreFaults = Pick<
  Plan,
  'lostRequest' | 'lostAnswer' | 'slowRead' | 'storeDelayMs' | 'foreign'
>;

interface Message {
  sequence: number;
  bytes: Uint8Array;
  /** Which snapshot it is a part of. */
  id?: number;
  /** Somebody else's: whoever reads the log leaves it out. */
  foreign?: true;
}

const NOTHING = new Uint8Array();

const ANSWER_TIMEOUT_MS = 400;
const MAX_TRIES = 20;
const SLOW_READ_MS = 200;

export class Store {
  readonly logs = new Map<string, Message[]>();
  readonly snapshots = new Map<number, Message[]>();
  faults: StoreFaults = CALM;
  /** For one who looks for a reason. */
  onAppend: (name: string, sequence: number, bytes: Uint8Array) => void = () => {};
  readonly #clock: Clock;
  readonly #random: Random;
  /** Of its own, so that without strangers a seed gives what it gave before there were any. */
  readonly #strangers: Random;
  #sequence = 0;
  #snapshotId = 0;

  constructor(clock: Clock, random: Random, seed: number) {
    this.#clock = clock;
    this.#strangers = new Random(seed);
    this.#random = random;
  }

  /** A journal or a partition's claims. */
  log(name: string, actor: Actor): LogPort {
    const log = listOf(this.logs, name);
    // As SubjectLog: where nothing of ours is, the first append follows what is there.
    let foreignOnly = 0;
    const last = async (): Promise<Message | undefined> => {
      const fence = await this.#ask(actor, () => log.at(-1));
      foreignOnly = 0;
      if (fence?.foreign === undefined) return fence;
      const { sequence } = fence;
      const own = await this.#ask(actor, () =>
        lastOwn(log.filter((message) => message.sequence <= sequence)),
      );
      if (own !== undefined) return { sequence, bytes: own.bytes };
      if (await this.#ask(actor, () => (log.at(-1)?.sequence ?? 0) > sequence)) {
        throw new Error('the log was written to meanwhile');
      }
      foreignOnly = sequence;
      return undefined;
    };
    return {
      last,
      lastSequence: async () => (await last())?.sequence ?? 0,
      read: async (from, to, onAppend) => {
        const found = await this.#ask(actor, () =>
          log.filter(({ sequence }) => sequence >= from && sequence <= to),
        );
        for (const { sequence, bytes, foreign } of found) {
          if (foreign === undefined) onAppend(sequence, bytes);
        }
      },
      append: async (bytes, expected) => {
        const behind = expected === 0 ? foreignOnly : expected;
        return this.#append(name, actor, Uint8Array.from(bytes), behind);
      },
      trim: async (before) =>
        this.#ask(actor, () => {
          const own = lastOwn(log)?.sequence ?? 0;
          while ((log[0]?.sequence ?? own) < Math.min(before, own)) log.shift();
        }),
    };
  }

  snapshot(partition: number, actor: Actor): SnapshotPort {
    const messages = listOf(this.snapshots, partition);
    return {
      write: async (chunks) => {
        this.#snapshotId += 1;
        const id = this.#snapshotId;
        const sequences: number[] = [];
        for await (const chunk of chunks) {
          const bytes = Uint8Array.from(chunk);
          sequences.push(
            await this.#ask(actor, () => {
              this.#sequence += 1;
              messages.push({ sequence: this.#sequence, bytes, id });
              return this.#sequence;
            }),
          );
        }
        return {
          firstSequence: sequences[0] ?? 0,
          lastSequence: sequences.at(-1) ?? 0,
          chunks: sequences.length,
        } satisfies SnapshotPointer;
      },
      read: async ({ firstSequence, lastSequence, chunks }, onChunk) => {
        const found = await this.#ask(actor, () =>
          messages.filter(({ sequence }) => sequence >= firstSequence && sequence <= lastSequence),
        );
        // One that a former owner began may lie between.
        const parts = found.filter(({ id }) => id === found[0]?.id);
        if (parts.length !== chunks) throw new Error('the snapshot is not whole');
        for (const { bytes } of parts) onChunk(bytes);
      },
      removeBefore: async (sequence) =>
        this.#ask(actor, () => {
          while ((messages[0]?.sequence ?? sequence) < sequence) messages.shift();
        }),
    };
  }

  /** As bus/log-writer.ts: what is not answered is looked for, and only repeated when nothing has followed. */
  async #append(name: string, actor: Actor, bytes: Uint8Array, expected: number): Promise<number> {
    const log = listOf(this.logs, name);
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const answer = await this.#tryAppend(name, actor, bytes, expected);
      if (answer !== undefined && answer > 0) return answer;
      const next = await this.#ask(actor, () => log.find(({ sequence }) => sequence > expected));
      if (next === undefined) continue;
      if (Buffer.compare(next.bytes, bytes) === 0) return next.sequence;
      throw new Error('another one has written to the log');
    }
    throw new Error('the log did not take an append in time');
  }

  /** The sequence; 0 refused; undefined when no answer has come in time. */
  #tryAppend(
    name: string,
    actor: Actor,
    bytes: Uint8Array,
    expected: number,
  ): Promise<number | undefined> {
    const { lostRequest, lostAnswer } = this.faults;
    const log = listOf(this.logs, name);
    const lost = this.#random.chance(lostRequest);
    const unanswered = this.#random.chance(lostAnswer);
    return new Promise((resolve) => {
      this.#clock.after(ANSWER_TIMEOUT_MS, actor, () => resolve(undefined));
      if (lost) return;
      // On its way it belongs to nobody: it lands even if its sender has crashed.
      this.#clock.after(this.#delay(), undefined, () => {
        const fits = (log.at(-1)?.sequence ?? 0) === expected;
        if (fits) {
          this.#sequence += 1;
          log.push({ sequence: this.#sequence, bytes });
          this.onAppend(name, this.#sequence, bytes);
        }
        const answer = fits ? this.#sequence : 0;
        this.#disturb();
        if (!unanswered) this.#clock.after(this.#delay(), actor, () => resolve(answer));
      });
    });
  }

  /** Somebody writes into one of the logs, at the same moment. */
  #disturb(): void {
    if (!this.#strangers.chance(this.faults.foreign)) return;
    this.#sequence += 1;
    const log = this.#strangers.pick([...this.logs.values()]);
    log.push({ sequence: this.#sequence, bytes: NOTHING, foreign: true });
  }

  #ask<Answer>(actor: Actor, read: () => Answer): Promise<Answer> {
    const slow = this.#random.chance(this.faults.slowRead);
    const slowMs = slow ? this.#random.between(0, SLOW_READ_MS) : 0;
    return new Promise((resolve) => {
      this.#clock.after(this.#delay() + slowMs, undefined, () => {
        const answer = read();
        this.#clock.after(this.#delay(), actor, () => resolve(answer));
      });
    });
  }

  #delay(): number {
    return this.#random.between(0.1, this.faults.storeDelayMs);
  }
}

function listOf<Name>(lists: Map<Name, Message[]>, name: Name): Message[] {
  let list = lists.get(name);
  if (list === undefined) {
    list = [];
    lists.set(name, list);
  }
  return list;
}

export function lastOwn(log: readonly Message[]): Message | undefined {
  return log.findLast(({ foreign }) => foreign === undefined);
}
