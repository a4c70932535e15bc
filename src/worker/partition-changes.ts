/** Answers `<namespace>.state.partitions`: another number of partitions. What follows from it is each partition's own affair (SPEC.md). */
import type { Subscription } from 'nats';
import { z } from 'zod';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import type { Settings } from '../core/settings.ts';
import { mergePartitions } from '../core/state-report.ts';
import type { Layout } from '../core/state/layout.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { StateService } from '../state/service.ts';
import type { Inspector } from './inspect.ts';
import { failPlain } from './transports.ts';

const questionSchema = z.object({ partitions: z.number().int().min(1).max(MAX_PARTITIONS) });
/** Others change the table, too. */
const MAX_ATTEMPTS = 20;
/** The largest of `MAX_PARTITIONS` partitions has at most so many times the mean share of the keys. */
const MAX_SHARE = 1.25;
const NOTHING = new Uint8Array();

export class PartitionChanges {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #inspector: Inspector;
  readonly #service: StateService;
  readonly #questions: Subscription;

  constructor(bus: Bus, settings: Settings, inspector: Inspector, service: StateService) {
    this.#bus = bus;
    this.#settings = settings;
    this.#inspector = inspector;
    this.#service = service;
    const subject = subjectsOf(settings.namespace).statePartitions;
    this.#questions = bus.subscribe(
      subject,
      ({ data, reply = '' }) => {
        void this.#set(data).then(
          (layout) => bus.answer(reply, writeControl(layout)),
          (error: unknown) => failPlain(bus, reply, asAnswer(error)),
        );
      },
      subject,
    );
  }

  close(): void {
    this.#questions.unsubscribe();
  }

  /** Asked for twice it is one change. */
  async #set(payload: Uint8Array): Promise<Layout> {
    const { partitions } = readControl(questionSchema, payload) ?? {};
    if (partitions === undefined) {
      throw new MillraceError(
        'INVALID_INPUT',
        `The question must be {"partitions": 1 to ${MAX_PARTITIONS}}.`,
      );
    }
    await this.#assertRoom(partitions);
    const { store } = this.#service;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
      const { owners, layout, revision } = await store.read();
      const { generation, from, to } = layout;
      if (to === partitions) return layout;
      if (from !== to) throw underWay(layout);
      const next = { generation: generation + 1, from, to: partitions };
      const added = Array.from({ length: Math.max(0, partitions - owners.length) }, () => null);
      const table = { owners: [...owners, ...added], layout: next };
      if (!(await store.change(table, revision))) continue;
      this.#bus.publish(subjectsOf(this.#settings.namespace).stateAssignment, NOTHING);
      return next;
    }
    throw new MillraceError(
      'UNAVAILABLE',
      'The table of partitions is being changed all the time.',
    );
  }

  /** Before anything moves: no partition may be given more than it can hold. */
  async #assertRoom(partitions: number): Promise<void> {
    const { maxPartitionBytes } = this.#settings;
    const rows = mergePartitions(await this.#inspector.stateReports(), MAX_PARTITIONS);
    const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
    const largest = Math.ceil((bytes / partitions) * MAX_SHARE);
    if (largest <= maxPartitionBytes) return;
    throw new MillraceError(
      'STATE_FULL',
      `With ${partitions} partitions the largest would have about ${largest} bytes; maxPartitionBytes is ${maxPartitionBytes}.`,
      { details: { largestBytes: largest, limitBytes: maxPartitionBytes } },
    );
  }
}

function underWay({ from, to }: Layout): MillraceError {
  return new MillraceError(
    'UNAVAILABLE',
    `The number of partitions is being changed from ${from} to ${to}; ask again when that is done.`,
    { details: { from, to } },
  );
}

function asAnswer(thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  return new MillraceError('UNAVAILABLE', 'The number of partitions was not changed.', {
    cause: thrown,
  });
}
