/**
 * What can go wrong, brought about on purpose: processes are stopped and killed by signals, messages are kept back and dropped
 * on their way from a worker to the broker.
 *
 * What coordinator and partition tell each other within one worker is no message: with one worker there is nothing to drop, and a
 * transaction is met where its keys lie on partitions of several workers.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from '../core/errors.ts';
import { splitItemKey } from '../core/state/keys.ts';
import type { PrepareMessage } from '../core/state/messages.ts';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../core/state/wire.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { WorkerProcess } from '../dev/worker-process.ts';
import { publish, type Publication } from './client-protocol.ts';
import { DROP, PASS, type Link, type Verdict } from './link.ts';
import type { TestServers } from './servers.ts';

/** Messages of a transaction, between the coordinator, the partition that decides and the others. */
export type TransactionMessage = 'prepare' | 'vote' | 'commit' | 'abort' | 'outcome';

export interface FaultyWorker {
  readonly process: WorkerProcess;
  /** Undefined where `faults` was not asked for. */
  readonly link: Link | undefined;
}

export interface FaultPorts {
  readonly namespace: string;
  /** The oldest first. */
  workers(): readonly FaultyWorker[];
  kill(id: string): Promise<unknown>;
  readonly servers: TestServers;
}

export interface OfWorker {
  /** A worker's id. */
  worker?: string;
}

export interface Endable {
  /** Ends it sooner. */
  signal?: AbortSignal;
}

export interface Awaited {
  /** How long it is waited for; default 20,000. */
  timeoutMs?: number;
}

type Rule = (worker: FaultyWorker, publication: Publication) => Verdict;

const AWAITED_MS = 20_000;
/** Longer than that and a test says something else than it means. */
const MAX_FAULT_MS = 600_000;

export class Faults {
  readonly #ports: FaultPorts;
  readonly #rules = new Set<Rule>();
  readonly #down = new Set<number>();

  constructor(ports: FaultPorts) {
    this.#ports = ports;
  }

  /**
   * Kills (SIGKILL) the worker that runs the next transaction over partitions of several workers, just when it has asked them to
   * prepare: nothing that it says after that leaves it. Resolves when it is dead. `collection`: one that the transaction writes.
   * Rejects with TIMEOUT when there is no such transaction.
   */
  async killCoordinator(
    options: Awaited & { collection?: string } = {},
  ): Promise<{ worker: string; transaction: string }> {
    const { collection, timeoutMs } = options;
    let victim: FaultyWorker | undefined;
    const transaction = await this.#until<string>(
      'No transaction over partitions of several workers was prepared',
      timeoutMs,
      (worker, publication, done, fail) => {
        const { envelopes, kind } = this.#read(publication);
        if (victim !== undefined) return worker === victim && kind !== 'prepare' ? DROP : PASS;
        for (const { message, partition } of envelopes) {
          if (message.kind !== 'prepare' || partition === undefined) continue;
          if (!isOfSeveral(message, partition) || !writes(message, collection)) continue;
          victim = worker;
          // What it has said in the same breath, prepares to others among it, is on its way.
          setImmediate(() => {
            this.#ports.kill(worker.process.id).then(() => done(message.tx), fail);
          });
          return PASS;
        }
        return PASS;
      },
    );
    return { worker: (victim as unknown as FaultyWorker).process.id, transaction };
  }

  /** Drops the next `times` (1) messages of this kind that leave a worker. Resolves when they are dropped; rejects with TIMEOUT. */
  async drop(
    kind: TransactionMessage,
    options: Awaited & OfWorker & { times?: number } = {},
  ): Promise<void> {
    const { times = 1, timeoutMs, worker: id } = options;
    let left = bounded('times', times, 1_000_000);
    this.#find(id);
    await this.#until<void>(
      `No more ${kind} messages were sent`,
      timeoutMs,
      (worker, said, done) => {
        const { envelopes, kind: what } = this.#read(said);
        if (what !== kind || left === 0 || !isOf(worker, id)) return PASS;
        // Several that leave together are one message of NATS.
        const kept = envelopes.slice(Math.min(left, envelopes.length));
        left -= envelopes.length - kept.length;
        if (left === 0) done();
        if (kept.length === 0) return DROP;
        return { kind: 'say', bytes: publish(said.subject, said.reply, encodeEnvelopes(kept)) };
      },
    );
  }

  /** A participant's answer to prepare is lost: as `drop('vote')`. */
  async dropVote(options?: Awaited & OfWorker & { times?: number }): Promise<void> {
    return this.drop('vote', options);
  }

  /** For `forMs` (1,000) every append to a log, of this worker or of all, reaches the broker `delayMs` later than it would. Resolves after that. */
  async delayAppends(delayMs: number, options: OfWorker & { forMs?: number } = {}): Promise<void> {
    const { worker: id, forMs = 1_000 } = options;
    bounded('delayMs', delayMs, MAX_FAULT_MS);
    this.#find(id);
    const logs = subjectsOf(this.#ports.namespace).log('');
    await this.#during(bounded('forMs', forMs, MAX_FAULT_MS), (worker, { subject }) => {
      if (!subject.startsWith(logs) || !isOf(worker, id)) return PASS;
      return { kind: 'later', ms: delayMs };
    });
  }

  /** Stops a worker's process (SIGSTOP), the oldest one by default, and continues it after `forMs`. Resolves then. */
  async pauseWorker(forMs: number, options: OfWorker & Endable = {}): Promise<void> {
    bounded('forMs', forMs, MAX_FAULT_MS);
    const { process } = this.#find(options.worker);
    process.signal('SIGSTOP');
    try {
      await lasting(forMs, options);
    } finally {
      process.signal('SIGCONT');
    }
  }

  /** Between a worker, the oldest one by default, and the broker nothing gets through for `forMs`, though connections stay open. Resolves after that. */
  async cutOff(forMs: number, options: OfWorker & Endable = {}): Promise<void> {
    bounded('forMs', forMs, MAX_FAULT_MS);
    const { link } = this.#find(options.worker);
    if (link === undefined) throw noLinks();
    link.cut();
    try {
      await lasting(forMs, options);
    } finally {
      link.mend();
    }
  }

  /**
   * Kills (SIGKILL) a nats-server, the first one by default, and starts it again after `forMs`, with what it has synced. Resolves when
   * it answers, and is in the cluster again.
   */
  async killServer(forMs: number, options: { server?: number } = {}): Promise<void> {
    bounded('forMs', forMs, MAX_FAULT_MS);
    const { servers } = this.#ports;
    const { server = 0 } = options;
    if (servers.urls[server] === undefined) {
      throw new MillraceError('NOT_FOUND', `There is no server ${server}.`);
    }
    if (this.#down.has(server)) {
      throw new MillraceError('INVALID_INPUT', `Server ${server} is down already.`);
    }
    this.#down.add(server);
    try {
      await servers.kill(server);
      await delay(forMs);
      await servers.restart(server);
    } finally {
      this.#down.delete(server);
    }
  }

  /** What becomes of a message; for the link of this worker. */
  judge(worker: FaultyWorker, publication: Publication): Verdict {
    for (const rule of this.#rules) {
      const verdict = rule(worker, publication);
      if (verdict.kind !== 'pass') return verdict;
    }
    return PASS;
  }

  #find(id: string | undefined): FaultyWorker {
    const workers = this.#ports.workers();
    const found = id === undefined ? workers[0] : workers.find((one) => one.process.id === id);
    if (found === undefined) throw new MillraceError('NOT_FOUND', 'There is no such worker.');
    return found;
  }

  /** Empty for what is no message of a transaction. */
  #read({ subject, payload, hasHeaders }: Publication): { kind: string; envelopes: Envelope[] } {
    // Without the dot before the worker.
    const begin = subjectsOf(this.#ports.namespace).tx('', '').slice(0, -1);
    if (hasHeaders || !subject.startsWith(begin)) return { kind: '', envelopes: [] };
    const [kind = ''] = subject.slice(begin.length).split('.');
    return { kind, envelopes: decodeEnvelopes(payload).envelopes };
  }

  async #during(forMs: number, rule: Rule): Promise<void> {
    this.#assertLinks();
    this.#rules.add(rule);
    try {
      await delay(forMs);
    } finally {
      this.#rules.delete(rule);
    }
  }

  async #until<Value>(
    otherwise: string,
    timeoutMs: number = AWAITED_MS,
    rule: (
      worker: FaultyWorker,
      said: Publication,
      done: (value: Value) => void,
      fail: (error: unknown) => void,
    ) => Verdict,
  ): Promise<Value> {
    this.#assertLinks();
    bounded('timeoutMs', timeoutMs, MAX_FAULT_MS);
    let timer: NodeJS.Timeout | undefined;
    let own: Rule = () => PASS;
    try {
      return await new Promise<Value>((resolve, reject) => {
        own = (worker, said) => rule(worker, said, resolve, reject);
        this.#rules.add(own);
        timer = setTimeout(() => {
          reject(new MillraceError('TIMEOUT', `${otherwise} within ${timeoutMs} ms.`));
        }, timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#rules.delete(own);
    }
  }

  #assertLinks(): void {
    if (this.#ports.workers().some(({ link }) => link === undefined)) throw noLinks();
  }
}

async function lasting(forMs: number, { signal }: Endable): Promise<void> {
  if (signal === undefined) await delay(forMs);
  else await delay(forMs, undefined, { signal }).catch(() => {});
}

function isOf(worker: FaultyWorker, id: string | undefined): boolean {
  return id === undefined || worker.process.id === id;
}

/** Otherwise nobody votes. */
function isOfSeveral({ home, participants }: PrepareMessage, partition: number): boolean {
  return participants.length > 0 || home !== partition;
}

function writes({ writes: written }: PrepareMessage, collection: string | undefined): boolean {
  return (
    collection === undefined || written.some(([key]) => splitItemKey(key).collection === collection)
  );
}

function bounded(name: string, value: number, maximum: number): number {
  if (Number.isFinite(value) && value >= 0 && value <= maximum) return value;
  throw new MillraceError('INVALID_INPUT', `${name} must be 0 to ${maximum}.`);
}

function noLinks(): MillraceError {
  const why = 'Messages are only kept back where the test was begun with faults: true.';
  return new MillraceError('INVALID_INPUT', why);
}
