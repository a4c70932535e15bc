/**
 * Answers `<namespace>.inspect.<what>`: one worker does, and asks all the others. A reply is put together from what
 * each worker says between the request and the reply; a worker that is gone is left out on the broker's word.
 *
 * Every worker hears the question. They stand in a line that all compute alike from the question: the first answers
 * at once and says so, the next one if nobody has said so within `TURN_MS`, and so on. In a queue group a worker that is stopped
 * or just dying would swallow its share of the questions. Those that drain or miss their beats are left out of the line;
 * where two workers see that differently both may answer, and the requester takes the first answer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, Subscription } from 'nats';
import { z } from 'zod';
import { NO_RESPONDERS, type Bus } from '../bus/connection.ts';
import type { Members } from '../bus/members.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { catalogSchema, type CatalogEntry } from '../core/catalog.ts';
import type { WorkerRecord } from '../core/directory.ts';
import { inspectedWorker, mergeFunctions, mergeWaiting } from '../core/merge-reports.ts';
import { isOwnFunction } from '../core/names.ts';
import { workerReportSchema, type InspectedWorker, type WorkerReport } from '../core/report.ts';
import { scaleOf } from '../core/scale.ts';
import type { Settings } from '../core/settings.ts';
import {
  mergePartitions,
  mergeTransactions,
  stateReportSchema,
  type StateReport,
} from '../core/state-report.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { StateQuestions } from '../state/questions.ts';
import type { SelfReport } from './reports.ts';
import { failPlain } from './transports.ts';

/** How long each in the line waits for the one before it. */
const TURN_MS = 100;
/** Who has said nothing for so many beats does not stand in the line: each would cost the requester a turn. */
const BEATS_MISSED = 2;
/** Questions that wait for their turn here; beyond it they are left to the other workers. */
const MAX_WAITING = 1_000;
/** A worker that is younger than this may not have heard of all the others yet, and asks before it answers. */
const YOUNG_MS = 1_000;
const ROLL_CALL_MS = 100;
const NOTHING = new Uint8Array();
/** Asks for a report with what waits. */
const HELD = Buffer.from('held');

const waitingQuestion = z.object({ function: z.string().optional() });

export interface InspectedSelf {
  readonly reports: Pick<SelfReport, 'worker' | 'catalog'>;
  /** Undefined where there is no state. */
  readonly state: () => StateQuestions | undefined;
  /** By function. */
  readonly deadLetters: () => Promise<ReadonlyMap<string, number>>;
}

export class Inspector {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #members: Members;
  readonly #workerId: string;
  readonly #self: InspectedSelf['reports'];
  readonly #state: InspectedSelf['state'];
  readonly #deadLetters: InspectedSelf['deadLetters'];
  /** Reply subject → when it is this worker's turn. */
  readonly #waiting = new Map<string, NodeJS.Timeout>();
  readonly #startedAtMs = performance.now();
  readonly #questions: Subscription[];
  readonly #reports: Subscription[];
  readonly #whats: Record<string, (payload: Uint8Array) => Promise<object>> = {
    workers: async () => ({ workers: await this.#workers() }),
    functions: async () => {
      const [{ reports }, deadLetters] = await Promise.all([this.#askAll(), this.#deadLetters()]);
      return { functions: mergeFunctions(reports, deadLetters) };
    },
    catalog: async () => ({ functions: await this.#catalog() }),
    waiting: async (payload) => {
      const { function: name } = readControl(waitingQuestion, payload) ?? {};
      return { waiting: mergeWaiting((await this.#askAll(HELD)).reports, name) };
    },
    scale: async (payload) => {
      const { function: name } = readControl(waitingQuestion, payload) ?? {};
      const { reports, silent } = await this.#askAll(HELD);
      return { scale: scaleOf(reports, silent, name) };
    },
    partitions: async () => {
      const { layout } = this.#stateQuestions();
      const count = Math.max(layout.from, layout.to);
      return { layout, partitions: mergePartitions(await this.stateReports(), count) };
    },
    transactions: async () => mergeTransactions(await this.stateReports()),
    key: async (payload) => this.#stateQuestions().key(payload),
    collections: async () => ({ collections: await this.#stateQuestions().collections() }),
    state: async (payload) => this.#stateQuestions().state(payload),
  };

  constructor(
    bus: Bus,
    settings: Settings,
    members: Members,
    workerId: string,
    { reports, state, deadLetters }: InspectedSelf,
  ) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#members = members;
    this.#workerId = workerId;
    this.#self = reports;
    this.#state = state;
    this.#deadLetters = deadLetters;
    this.#reports = [
      bus.subscribe(this.#subjects.workerReport(workerId), ({ reply, data }) =>
        bus.answer(reply, this.#report(data.length > 0)),
      ),
      bus.subscribe(this.#subjects.workerCatalog(workerId), ({ reply }) =>
        bus.answer(reply, writeControl({ functions: reports.catalog() })),
      ),
    ];
    this.#questions = [
      bus.subscribe(this.#subjects.inspect('>'), (message) => this.#onQuestion(message)),
      bus.subscribe(this.#subjects.inspecting, (message) => this.#forget(message.string())),
    ];
  }

  /** Leaves the questions to the other workers; this one is still reported, as draining. */
  stopAnswering(): void {
    for (const reply of this.#waiting.keys()) this.#forget(reply);
    for (const subscription of this.#questions) subscription.unsubscribe();
  }

  /** Says nothing of this worker any more: it is gone. */
  close(): void {
    for (const subscription of this.#reports) subscription.unsubscribe();
  }

  #onQuestion({ subject, data, reply = '' }: Msg): void {
    if (reply === '' || this.#waiting.size >= MAX_WAITING) return;
    // Before it is announced it knows nothing of the state yet.
    if (!this.#members.directory.has(this.#workerId)) return;
    const place = this.#placeInLine(reply);
    if (place === 0) void this.#answer(subject, data, reply);
    else {
      const timer = setTimeout(() => {
        this.#waiting.delete(reply);
        void this.#answer(subject, data, reply);
      }, place * TURN_MS);
      this.#waiting.set(reply, timer);
    }
  }

  /** Another place for each question, so that the work is spread; 0 is the first. */
  #placeInLine(reply: string): number {
    const sinceMs = performance.now() - BEATS_MISSED * this.#settings.heartbeatIntervalMs;
    const ids = new Set(this.#members.directory.heardSince(sinceMs));
    const line = [...ids.add(this.#workerId)].sort();
    const first = Buffer.from(reply).reduce((sum, byte) => sum + byte, 0) % line.length;
    return (line.indexOf(this.#workerId) - first + line.length) % line.length;
  }

  #forget(reply: string): void {
    clearTimeout(this.#waiting.get(reply));
    this.#waiting.delete(reply);
  }

  /** Of a thousand functions it may not fit into one message: then without what takes the most room. */
  #report(held: boolean): Buffer {
    const report = this.#self.worker(held);
    const bytes = writeControl(report);
    if (bytes.length <= this.#bus.maxMessageBytes) return bytes;
    const functions = report.functions.map((each) => ({
      ...each,
      held: [],
      subjects: [],
      latency: [],
    }));
    return writeControl({ ...report, functions });
  }

  async #answer(subject: string, data: Uint8Array, reply: string): Promise<void> {
    try {
      this.#bus.publish(this.#subjects.inspecting, Buffer.from(reply));
      const what = subject.slice(this.#subjects.inspect('').length);
      if (!Object.hasOwn(this.#whats, what)) throw this.#unknown(what);
      const answer = await (this.#whats[what] as (payload: Uint8Array) => Promise<object>)(data);
      this.#bus.answer(reply, writeControl(answer));
    } catch (cause) {
      const error =
        cause instanceof MillraceError
          ? cause
          : new MillraceError('UNAVAILABLE', 'The inspection failed.', { cause });
      failPlain(this.#bus, reply, error);
    }
  }

  #unknown(what: string): MillraceError {
    const known = Object.keys(this.#whats).join(', ');
    return new MillraceError(
      'NOT_FOUND',
      `There is nothing to inspect under ${JSON.stringify(what)}; there are: ${known}.`,
    );
  }

  async #workers(): Promise<InspectedWorker[]> {
    const { reports, silent } = await this.#askAll();
    return [...reports.map(inspectedWorker), ...silent].sort((left, right) =>
      left.startedAt < right.startedAt ? -1 : 1,
    );
  }

  /** One entry for each function; where workers differ, that of the one with the smallest id. */
  async #catalog(): Promise<CatalogEntry[]> {
    const found: [workerId: string, entries: CatalogEntry[]][] = [
      [this.#workerId, this.#self.catalog()],
    ];
    await this.#eachOther(async ({ id }) => {
      const answer = await this.#ask(this.#subjects.workerCatalog(id), catalogSchema);
      if (typeof answer === 'object') found.push([id, answer.functions]);
    });
    found.sort(([left], [right]) => (left < right ? -1 : 1));
    const byName = new Map<string, CatalogEntry>();
    for (const entry of found.flatMap(([, entries]) => entries)) {
      if (!byName.has(entry.name)) byName.set(entry.name, entry);
    }
    return [...byName.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  /** Of all workers that answer, this one among them. */
  async stateReports(): Promise<StateReport[]> {
    const reports = [this.#stateQuestions().report()];
    await this.#eachOther(async ({ id }) => {
      const report = await this.#ask(this.#subjects.stateReport(id), stateReportSchema);
      if (typeof report === 'object') reports.push(report);
    });
    return reports;
  }

  #stateQuestions(): StateQuestions {
    const questions = this.#state();
    if (questions !== undefined) return questions;
    throw new MillraceError(
      'NOT_SUPPORTED',
      'There is no state: the NATS server has no JetStream.',
    );
  }

  async #askAll(
    question: Uint8Array = NOTHING,
  ): Promise<{ reports: WorkerReport[]; silent: InspectedWorker[] }> {
    const reports = [this.#self.worker(question.length > 0)];
    const silent: InspectedWorker[] = [];
    await this.#eachOther(async ({ id, functions }) => {
      const report = await this.#ask(this.#subjects.workerReport(id), workerReportSchema, question);
      if (report === 'gone') this.#members.directory.remove(id);
      else if (report === 'silent') silent.push(unresponsive(id, functions));
      else reports.push(report);
    });
    return { reports, silent };
  }

  async #eachOther(ask: (worker: WorkerRecord) => Promise<void>): Promise<void> {
    if (performance.now() - this.#startedAtMs < YOUNG_MS) {
      this.#members.hello(true);
      await delay(ROLL_CALL_MS);
    }
    const others = this.#members.directory.workers().filter(({ id }) => id !== this.#workerId);
    await Promise.all(others.map(ask));
  }

  async #ask<Report>(
    subject: string,
    schema: z.ZodType<Report>,
    question: Uint8Array = NOTHING,
  ): Promise<Report | 'gone' | 'silent'> {
    try {
      const { inspectTimeoutMs } = this.#settings;
      const message = await this.#bus.request(subject, question, inspectTimeoutMs);
      return readControl(schema, message.data) ?? 'silent';
    } catch (error) {
      return (error as MillraceError).details === NO_RESPONDERS ? 'gone' : 'silent';
    }
  }
}

/** Connected, but it does not answer: it computes, or it is stopped. */
function unresponsive(id: string, functions: readonly string[]): InspectedWorker {
  return {
    id,
    pid: null,
    host: '',
    startedAt: '',
    state: 'unresponsive',
    functions: functions.filter((name) => !isOwnFunction(name)),
    partitions: [],
    inFlight: 0,
    utilization: 0,
    capacity: 0,
    slots: 0,
  };
}
