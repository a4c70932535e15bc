/**
 * Plain requests of functions that nobody has, or nobody who lives: `<namespace>.fn.*` in a queue group of its own, so
 * that every request by name also comes to one worker here. Where some worker can answer, this one keeps silent.
 *
 * - A function that was never offered is UNKNOWN_FUNCTION, after a moment for a worker that is just starting.
 * - One whose workers all drain, or are gone by the broker's word, is UNAVAILABLE.
 */
import type { Msg, Subscription } from 'nats';
import type { Caller } from '../bus/caller.ts';
import { NO_RESPONDERS, type Bus } from '../bus/connection.ts';
import { MillraceError } from '../core/errors.ts';
import { isOwnFunction } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import { failPlain } from './transports.ts';

/** How long a request waits for a worker that is just starting. */
const WAIT_MS = 100;
/** Requests that wait so at once; further ones are not answered. */
const MAX_WAITING = 1_000;
const PING_TIMEOUT_MS = 300;

export class UnknownFunctions {
  readonly #bus: Bus;
  readonly #subjects: Subjects;
  readonly #caller: Caller;
  readonly #isHere: (functionName: string) => boolean;
  readonly #subscription: Subscription;
  readonly #alive = new Map<string, { askedMs: number; answer: Promise<boolean> }>();
  #waiting = 0;

  constructor(bus: Bus, settings: Settings, caller: Caller, isHere: (name: string) => boolean) {
    this.#bus = bus;
    this.#subjects = subjectsOf(settings.namespace);
    this.#caller = caller;
    this.#isHere = isHere;
    this.#subscription = bus.subscribe(
      this.#subjects.fn('*'),
      (message) => this.#onRequest(message),
      this.#subjects.unknownGroup,
    );
  }

  drain(): Promise<void> {
    return this.#subscription.drain();
  }

  #onRequest({ subject, reply = '' }: Msg): void {
    const name = subject.slice(this.#subjects.fn('').length);
    if (isOwnFunction(name)) {
      failPlain(this.#bus, reply, unknown(name));
      return;
    }
    if (reply === '' || this.#isHere(name) || this.#waiting >= MAX_WAITING) return;
    const offering = this.#caller.members.directory.workersOf(name);
    // Looked at on arrival: one that drains by the time of the answer may have taken the request before.
    if (offering.length > 0 && offering.every(({ state }) => state === 'draining')) {
      failPlain(this.#bus, reply, unavailable(name));
      return;
    }
    this.#waiting += 1;
    const arrivedMs = performance.now();
    setTimeout(() => {
      this.#waiting -= 1;
      void this.#answer(name, reply, arrivedMs);
    }, WAIT_MS);
  }

  async #answer(name: string, reply: string, arrivedMs: number): Promise<void> {
    if (this.#isHere(name)) return;
    if (this.#caller.members.directory.workersOf(name).length > 0) {
      if (await this.#someoneLives(name, arrivedMs)) return;
      failPlain(this.#bus, reply, unavailable(name));
    } else if (this.#caller.members.wasOffered(name))
      failPlain(this.#bus, reply, unavailable(name));
    else failPlain(this.#bus, reply, unknown(name));
  }

  /**
   * One question for all requests of a function that arrived before it was asked. An older answer is worth nothing: who
   * lived then may have died before the request, which nobody would answer.
   */
  #someoneLives(name: string, arrivedMs: number): Promise<boolean> {
    const known = this.#alive.get(name);
    if (known !== undefined && known.askedMs >= arrivedMs) return known.answer;
    if (this.#alive.size >= MAX_WAITING) this.#alive.clear();
    const workers = this.#caller.members.directory.workersOf(name);
    const answer = Promise.all(workers.map(({ id }) => this.#lives(id))).then((lives) =>
      lives.includes(true),
    );
    this.#alive.set(name, { askedMs: performance.now(), answer });
    return answer;
  }

  /** One that is silent but still listens counts: it holds its requests, and answers them when it can. */
  async #lives(workerId: string): Promise<boolean> {
    try {
      await this.#bus.request(
        this.#subjects.workerPing(workerId),
        new Uint8Array(),
        PING_TIMEOUT_MS,
      );
      return true;
    } catch (error) {
      // Anything else, such as our own connection breaking, says nothing about the worker.
      if ((error as MillraceError).details !== NO_RESPONDERS) return true;
      this.#caller.members.directory.remove(workerId);
      return false;
    }
  }
}

function unknown(name: string): MillraceError {
  return new MillraceError('UNKNOWN_FUNCTION', `There is no function ${name}: no worker runs it.`);
}

function unavailable(name: string): MillraceError {
  return new MillraceError('UNAVAILABLE', `No worker that runs ${name} is available.`);
}
