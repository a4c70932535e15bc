/**
 * Answers `<namespace>.inspect.<what>`: any worker does, and asks all the others. A reply is put together from what
 * each worker says between the request and the reply; a worker that is gone is left out on the broker's word.
 */
import type { Msg, Subscription } from 'nats';
import type { Bus } from '../bus/connection.ts';
import type { Members } from '../bus/members.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { inspectedWorker, mergeFunctions } from '../core/merge-reports.ts';
import { workerReportSchema, type InspectedWorker, type WorkerReport } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import { failPlain } from './transports.ts';

const QUEUE_GROUP = 'inspect';
/** A worker that is younger than this may not have heard of all the others yet, and asks before it answers. */
const YOUNG_MS = 1_000;
const ROLL_CALL_MS = 100;
const NOTHING = new Uint8Array();

export class Inspector {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  readonly #members: Members;
  readonly #workerId: string;
  readonly #report: () => WorkerReport;
  readonly #startedAtMs = performance.now();
  readonly #subscriptions: Subscription[];
  readonly #whats: Record<string, () => Promise<object>> = {
    workers: async () => ({ workers: await this.#workers() }),
    functions: async () => ({ functions: mergeFunctions(await this.#reports()) }),
  };

  constructor(
    bus: Bus,
    settings: Settings,
    members: Members,
    workerId: string,
    report: () => WorkerReport,
  ) {
    this.#bus = bus;
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
    this.#members = members;
    this.#workerId = workerId;
    this.#report = report;
    this.#subscriptions = [
      bus.subscribe(this.#subjects.workerReport(workerId), ({ reply }) => {
        if (reply !== undefined && bus.up) bus.publish(reply, writeControl(report()));
      }),
      bus.subscribe(
        this.#subjects.inspect('>'),
        (message) => void this.#answer(message),
        QUEUE_GROUP,
      ),
    ];
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  async #answer(message: Msg): Promise<void> {
    const { reply, subject } = message;
    if (reply === undefined || reply === '') return;
    try {
      const what = subject.slice(this.#subjects.inspect('').length);
      if (!Object.hasOwn(this.#whats, what)) throw this.#unknown(what);
      const answer = await (this.#whats[what] as () => Promise<object>)();
      if (this.#bus.up) this.#bus.publish(reply, writeControl(answer));
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

  async #reports(): Promise<WorkerReport[]> {
    return (await this.#askAll()).reports;
  }

  async #askAll(): Promise<{ reports: WorkerReport[]; silent: InspectedWorker[] }> {
    if (performance.now() - this.#startedAtMs < YOUNG_MS) {
      this.#members.hello(true);
      await new Promise((resolve) => setTimeout(resolve, ROLL_CALL_MS));
    }
    const reports = [this.#report()];
    const silent: InspectedWorker[] = [];
    const others = this.#members.directory.workers().filter(({ id }) => id !== this.#workerId);
    await Promise.all(
      others.map(async ({ id, functions }) => {
        const report = await this.#ask(id);
        if (report === 'gone') this.#members.directory.remove(id);
        else if (report === 'silent') silent.push(unresponsive(id, functions));
        else reports.push(report);
      }),
    );
    return { reports, silent };
  }

  async #ask(workerId: string): Promise<WorkerReport | 'gone' | 'silent'> {
    try {
      const { inspectTimeoutMs } = this.#settings;
      const subject = this.#subjects.workerReport(workerId);
      const message = await this.#bus.request(subject, NOTHING, inspectTimeoutMs);
      return readControl(workerReportSchema, message.data) ?? 'silent';
    } catch (error) {
      return (error as MillraceError).code === 'TIMEOUT' ? 'silent' : 'gone';
    }
  }
}

/** Connected, but it does not answer: it computes, or it is stopped. */
function unresponsive(id: string, functions: readonly string[]): InspectedWorker {
  return {
    id,
    pid: 0,
    host: '',
    startedAt: '',
    state: 'unresponsive',
    functions: [...functions],
    partitions: [],
    inFlight: 0,
    capacity: 0,
  };
}
