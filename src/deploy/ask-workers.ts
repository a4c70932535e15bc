/** Asks all workers something that may take them a while, and waits for all that can answer. */
import { setTimeout as delay } from 'node:timers/promises';
import { nuid } from 'nats';
import { NO_RESPONDERS, type Bus } from '../bus/connection.ts';
import { readControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { workerWordSchema, type WorkerWord } from './messages.ts';

/** A worker that has said nothing until then is stopped or cut off: it sees to it when it is back. */
const HEARD_WITHIN_MS = 1_500;
const ANSWERED_WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 10;
const PING_EVERY_MS = 1_000;
const NOTHING = new Uint8Array();

export interface Answers {
  ready: WorkerWord[];
  failed: WorkerWord[];
}

/** `expected`: the ids of the workers that are known to run. One that dies meanwhile is not waited for. Rejects with UNAVAILABLE when the connection breaks. */
export async function askWorkers(
  bus: Bus,
  settings: Settings,
  subject: string,
  question: Uint8Array,
  expected: readonly string[],
): Promise<Answers> {
  const words = new Map<string, WorkerWord>();
  const reply = `${bus.inbox}.d.${nuid.next()}`;
  const answers = bus.subscribe(reply, ({ data }) => {
    const word = readControl(workerWordSchema, data);
    // Words may overtake each other by a reconnect; the last one of them counts.
    if (word !== undefined && (word.state !== 'heard' || !words.has(word.worker))) {
      words.set(word.worker, word);
    }
  });
  const { epoch } = bus;
  const beganMs = performance.now();
  let pingedMs = beganMs;
  const dead = new Set<string>();
  try {
    bus.publish(subject, question, { reply });
    for (;;) {
      // Who was asked or has answered meanwhile cannot be known.
      if (!bus.up || bus.epoch !== epoch) {
        throw new MillraceError(
          'UNAVAILABLE',
          'The connection to NATS broke while the workers were asked.',
        );
      }
      const waitedMs = performance.now() - beganMs;
      const open = [...new Set([...expected, ...words.keys()])].filter((id) => {
        const state = words.get(id)?.state;
        if (dead.has(id)) return false;
        return state === undefined ? waitedMs < HEARD_WITHIN_MS : state === 'heard';
      });
      if (open.length === 0) break;
      if (waitedMs > ANSWERED_WITHIN_MS) {
        for (const worker of open) words.set(worker, silent(worker));
        break;
      }
      if (performance.now() - pingedMs > PING_EVERY_MS) {
        pingedMs = performance.now();
        for (const id of await goneOf(bus, settings, open)) dead.add(id);
      }
      await delay(LOOK_EVERY_MS);
    }
  } finally {
    answers.unsubscribe();
  }
  const all = [...words.values()].filter(({ worker }) => !dead.has(worker));
  return {
    ready: all.filter(({ state }) => state === 'ready'),
    failed: all.filter(({ state }) => state === 'failed'),
  };
}

function silent(worker: string): WorkerWord {
  return { worker, state: 'failed', why: `it has not answered within ${ANSWERED_WITHIN_MS} ms` };
}

/** Those of whom the broker says that nobody listens. */
async function goneOf(bus: Bus, settings: Settings, ids: readonly string[]): Promise<string[]> {
  const subjects = subjectsOf(settings.namespace);
  const asked = ids.map(async (id) => {
    try {
      await bus.request(subjects.workerPing(id), NOTHING, PING_EVERY_MS);
      return [];
    } catch (error) {
      return (error as MillraceError).details === NO_RESPONDERS ? [id] : [];
    }
  });
  return (await Promise.all(asked)).flat();
}
