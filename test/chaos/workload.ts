/**
 * Clients that append to lists and read them, several in one transaction, and note what they were told and when.
 *
 * Every request has an id and is repeated under it while nobody knows what became of it; some are repeated though they
 * were answered. What a failure means is taken from docs/errors.md: only an outcome that it calls unknown is one.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { CallError, type Mill } from 'millrace';
import type { Operation } from '../support/serializability.ts';
import type { Random } from '../support/random.ts';

const LANES = 16;
const KEYS = 10;
/** Appends to a list before its key is given up for a new one: what is read must not grow with the length of the run. */
const LIST_LENGTH = 50;
/** Longer than workers are stopped: what they had begun goes on when they do. */
const CALL_TIMEOUT_MS = 8_000;
/** Then the next operation is begun though this one has not ended: what is stuck must not take the load away. */
const OVERTAKEN_AFTER_MS = 300;
const MAX_OPEN = 96;
const MAX_LINGER_MS = 100;
/** How long an operation is repeated before its client gives up. */
const PATIENCE_MS = 12_000;
const REPEAT_TIMEOUT_MS = 20_000;
const UNDONE = 'This one is to be undone.';

/** An operation as its client noted it. */
export interface Noted extends Operation {
  request: Request;
  /** How often it was sent. */
  sent: number;
  /** Codes of the failures on the way. */
  failures: string[];
}

interface Request {
  id: number;
  steps: { key: string; append: boolean; through: boolean; lingerMs: number }[];
  together: boolean;
  move?: [string, string];
  undo: boolean;
}

export class Workload {
  readonly history: Noted[] = [];
  /** What was wrong already while it ran. */
  readonly problems: string[] = [];
  repeated = 0;
  totals = 0;
  readonly #mill: Mill;
  readonly #random: Random;
  readonly #prefix: string;
  readonly #through: number;
  readonly #appends: number[] = Array.from({ length: KEYS }, () => 0);
  readonly #lanes: Promise<void>[];
  readonly #repeats: Promise<void>[] = [];
  readonly #open = new Set<Promise<void>>();
  #stopped = false;

  /** `through`: the share of steps that are done by a call; such a call holds its caller's locks while its worker is stopped. */
  constructor(mill: Mill, random: Random, prefix: string, through: number) {
    this.#through = through;
    this.#mill = mill;
    this.#random = random;
    this.#prefix = prefix;
    this.#lanes = Array.from({ length: LANES }, async () => this.#lane());
    // One for each key that uses nothing else: it tells how long the key was away.
    for (let key = 0; key < KEYS; key += 1) this.#lanes.push(this.#probe(key));
    this.#lanes.push(this.#watchTotal());
  }

  /** Every key that was ever used. */
  get keys(): string[] {
    return [...new Set(this.history.flatMap(({ request }) => request.steps.map(({ key }) => key)))];
  }

  get accounts(): string[] {
    return Array.from({ length: KEYS }, (_, index) => `account-${index}`);
  }

  /** Resolves when all that was begun has its end. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#lanes);
    await Promise.all(this.#open);
    await Promise.all(this.#repeats);
  }

  /** Repeats what nobody knows the outcome of (`share` of it): then it has one. */
  async resolve(share: number): Promise<void> {
    const unknown = this.history.filter(
      ({ status }) => status === 'unknown' && this.#random.chance(share),
    );
    await Promise.all(unknown.map(async (noted) => this.#send(noted, PATIENCE_MS)));
  }

  /** Repeats `count` requests that were answered: the answer must be the first one. */
  async repeatSome(count: number): Promise<void> {
    const answered = this.history.filter(({ status }) => status === 'ok');
    if (answered.length === 0) return;
    const some = Array.from({ length: count }, () => this.#random.pick(answered));
    await Promise.all(some.map(async (noted) => this.#repeat(noted)));
  }

  async readAll(): Promise<{ lists: Map<string, number[]>; total: number }> {
    const { keys, accounts } = this;
    const { lists, total } = (await this.#mill.invoke('read-all', { lists: keys, accounts })) as {
      lists: number[][];
      total: number;
    };
    return { lists: new Map(keys.map((key, index) => [key, lists[index] ?? []])), total };
  }

  async #lane(): Promise<void> {
    while (!this.#stopped) {
      const noted = this.#note(this.#request());
      // Some clients give up at the first failure: their history has failures of all kinds.
      const patienceMs = this.#random.chance(0.2) ? 0 : PATIENCE_MS;
      await this.#overtaken(this.#send(noted, patienceMs));
      if (noted.status === 'ok' && this.#random.chance(0.1)) this.#repeats.push(this.#later(noted));
    }
  }

  async #probe(key: number): Promise<void> {
    while (!this.#stopped) {
      const step = { key: this.#keyName(key, true), append: true, through: false, lingerMs: 0 };
      const id = this.history.length + 1;
      const noted = this.#note({ id, steps: [step], together: false, undo: false });
      await this.#overtaken(this.#send(noted, PATIENCE_MS));
      await delay(this.#random.between(20, 60));
    }
  }

  /** Resolves when the operation has ended, or after a while. */
  async #overtaken(operation: Promise<void>): Promise<void> {
    this.#open.add(operation);
    const ended = operation.finally(() => this.#open.delete(operation));
    await Promise.race([ended, delay(OVERTAKEN_AFTER_MS)]);
    while (this.#open.size >= MAX_OPEN) await delay(OVERTAKEN_AFTER_MS);
  }

  async #watchTotal(): Promise<void> {
    while (!this.#stopped) {
      await delay(100);
      const data = { lists: [], accounts: this.accounts };
      const options = { timeoutMs: CALL_TIMEOUT_MS };
      const read = await this.#mill.invoke('read-all', data, options).catch((error: unknown) => {
        if (!(error instanceof CallError)) throw error;
      });
      if (read === undefined) continue;
      const { total } = read as { total: number };
      this.totals += 1;
      if (total !== 0) this.problems.push(`The accounts had ${total} together instead of 0.`);
    }
  }

  #request(): Request {
    const random = this.#random;
    const readOnly = random.chance(0.2);
    const keys = new Set<number>();
    const count = 1 + random.below(4);
    // The first keys are hot.
    while (keys.size < count) keys.add(random.chance(0.3) ? random.below(2) : random.below(KEYS));
    const steps = [...keys].map((key) => {
      const append = !readOnly && random.chance(0.6);
      const through = random.chance(this.#through);
      const lingerMs = through && random.chance(0.3) ? random.below(MAX_LINGER_MS) : 0;
      return { key: this.#keyName(key, append), append, through, lingerMs };
    });
    const { accounts } = this;
    const [from, to] = [random.pick(accounts), random.pick(accounts)];
    const moves = !readOnly && from !== to && random.chance(0.2);
    return {
      id: this.history.length + 1,
      steps,
      together: random.chance(0.5),
      ...(moves ? { move: [from, to] } : {}),
      undo: random.chance(0.05),
    };
  }

  #keyName(key: number, append: boolean): string {
    const appends = this.#appends[key] ?? 0;
    if (append) this.#appends[key] = appends + 1;
    return `${key}.${Math.floor(appends / LIST_LENGTH)}`;
  }

  #note(request: Request): Noted {
    const noted: Noted = {
      id: request.id,
      startMs: performance.now(),
      endMs: Number.POSITIVE_INFINITY,
      status: 'unknown',
      reads: [],
      appends: request.steps.filter(({ append }) => append).map(({ key }) => key),
      request,
      sent: 0,
      failures: [],
    };
    this.history.push(noted);
    return noted;
  }

  async #send(noted: Noted, patienceMs: number): Promise<void> {
    const giveUpMs = performance.now() + patienceMs;
    // Once an attempt may have taken effect, no later failure says that it hasn't.
    let doubt = noted.sent > 0;
    for (;;) {
      noted.sent += 1;
      try {
        const lists = await this.#invoke(noted, this.#random.chance(0.9));
        noted.reads = noted.request.steps.map(({ key }, index) => ({
          key,
          list: lists[index] ?? [],
        }));
        if (noted.request.undo) this.problems.push(`${noted.id} was answered and should fail.`);
        this.#end(noted, 'ok');
        return;
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        noted.failures.push(`${error.code} ${error.message}`);
        if (noted.request.undo && error.message === UNDONE) {
          this.#end(noted, 'failed');
          return;
        }
        doubt ||= mayHaveTakenEffect(error);
        if (performance.now() < giveUpMs) await delay(this.#random.between(10, 100));
        else {
          if (!doubt) this.#end(noted, 'failed');
          return;
        }
      }
    }
  }

  #end(noted: Noted, status: Operation['status']): void {
    noted.status = status;
    noted.endMs = performance.now();
  }

  async #later(noted: Noted): Promise<void> {
    await delay(this.#random.between(0, 4_000));
    await this.#repeat(noted);
  }

  /** Until there is an answer, or for `REPEAT_TIMEOUT_MS`. */
  async #repeat(noted: Noted): Promise<void> {
    const giveUpMs = performance.now() + REPEAT_TIMEOUT_MS;
    while (performance.now() < giveUpMs) {
      try {
        const lists = JSON.stringify(await this.#invoke(noted, true));
        const first = JSON.stringify(noted.reads.map(({ list }) => list));
        this.repeated += 1;
        if (lists !== first) {
          this.problems.push(`${noted.id} was answered ${first}, and when repeated ${lists}.`);
        }
        return;
      } catch (error) {
        if (!(error instanceof CallError)) throw error;
        await delay(50);
      }
    }
  }

  async #invoke({ request }: Noted, retry: boolean): Promise<number[][]> {
    const id = `${this.#prefix}-${request.id}`;
    const options = { id, retry, timeoutMs: CALL_TIMEOUT_MS };
    return (await this.#mill.invoke('append', request, options)) as number[][];
  }
}

/** As docs/errors.md has it. */
function mayHaveTakenEffect({ code, details }: CallError): boolean {
  const outcome = (details as { outcome?: string } | undefined)?.outcome;
  if (code === 'TIMEOUT') return outcome !== 'not sent';
  return outcome === 'unknown';
}
