/**
 * Publishes events whose time has come: a function of the platform's own, which every worker has and nobody sees. It is durable on
 * what the broker says is due, and emits the event on its own subject; so what makes any event's effects happen once
 * (core/delivery/SPEC.md, D1) makes this happen once.
 *
 * But the broker may say twice that an event is due: when it crashes between saying so and forgetting the schedule, or when it is
 * given the schedule a second time, because its acknowledgement was lost, and has forgotten the id since (it knows ids of what it
 * still has). So what was published is noted in the same transaction, for `answerKeepMs`.
 */
import type { Bus } from '../bus/connection.ts';
import { dueEvent, tokenOf } from '../bus/later.ts';
import { LaterStream } from '../bus/later-stream.ts';
import type { Publisher } from '../bus/publisher.ts';
import { messageOf } from '../core/errors.ts';
import { hash32 } from '../core/hash.ts';
import { wasPublished, writePublished } from '../core/later.ts';
import { LATER_FUNCTION } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { itemKey } from '../core/state/keys.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Context, FunctionEvent } from '../function/context.ts';
import { defineFunction } from '../function/define.ts';
import type { LoadedFunction } from '../function/load.ts';
import type { Attempt } from '../state/attempt.ts';
import { InvocationContext } from './invocation.ts';

/**
 * Events that are due are published in so many rows, one after the other in each, chosen by the event's id: what says that it was
 * published lies beside the row's marker, in one partition.
 */
const ROWS = 128;
const COLLECTION = '$later';
/** After a failure, such as a partition without room: as often, and as patiently, as a function may at most. */
const RETRIES = { maxAttempts: 1_000, minDelayMs: 500, maxDelayMs: 60_000 };

export class LaterEvents {
  readonly loaded: LoadedFunction;
  readonly #settings: Settings;
  readonly #publisher: Publisher;

  private constructor(settings: Settings, publisher: Publisher) {
    this.#settings = settings;
    this.#publisher = publisher;
    this.loaded = this.#load();
  }

  /** Throws STREAM_UNUSABLE, UNAVAILABLE, TIMEOUT. */
  static async open(bus: Bus, settings: Settings, publisher: Publisher): Promise<LaterEvents> {
    await new LaterStream(bus, settings).ensure();
    return new LaterEvents(settings, publisher);
  }

  #load(): LoadedFunction {
    const subjects = [subjectsOf(this.#settings.namespace).due('*')];
    const definition = defineFunction({
      on: subjects,
      // Events may have become due before there was any worker.
      from: 'start',
      key: ({ subject }) => rowOf(subject),
      retries: RETRIES,
      handler: async (event, context) => this.#publish(event, context),
    });
    return { definition, name: LATER_FUNCTION, file: '', version: 'platform', subjects };
  }

  async #publish({ headers, data, subject }: FunctionEvent, context: Context): Promise<void> {
    const { run, transaction } = InvocationContext.insideOf(context);
    const { event, dueMs } = this.#dueEvent(headers, data);
    const attempt = transaction() as Attempt;
    const item = itemKey(`${COLLECTION}.${tokenOf(event)}`, rowOf(subject));
    const before = await attempt.read(item, true);
    const nowMs = Date.now();
    if (wasPublished(before, dueMs, nowMs)) return;
    attempt.write(item, writePublished(dueMs, nowMs, this.#settings.answerKeepMs));
    // One that no transaction has room for: its stream knows its id if it comes again.
    if (event.payload.length > this.#settings.maxTransactionBytes / 2) {
      await this.#publisher.sendOnce(event, dueMs);
    } else run.addEvent(event);
  }

  /** What somebody else has put there goes to the dead letters. */
  #dueEvent(headers: FunctionEvent['headers'], data: unknown): ReturnType<typeof dueEvent> {
    try {
      const payload = data instanceof Uint8Array ? data : new Uint8Array();
      return dueEvent(headers, payload, this.#settings.namespace);
    } catch (cause) {
      throw Object.assign(new Error(messageOf(cause), { cause }), { retryable: false });
    }
  }
}

function rowOf(subject: string): string {
  return `row-${hash32(subject) % ROWS}`;
}
