/** Has events that wait for their time come before it. */
import { connect, headers as newHeaders, type JetStreamManager, type MsgHdrs } from 'nats';
import { dueEvent } from '../bus/later.ts';
import { laterStream } from '../bus/later-stream.ts';
import { subjectsOf } from '../core/subjects.ts';

const NO_STREAM = 'stream not found';

/** Those that are due until then (since 1970). What the broker says a second time the workers know. */
export async function dueNow(
  urls: readonly string[],
  namespace: string,
  untilMs: number,
): Promise<number> {
  const nats = await connect({ servers: [...urls] });
  try {
    const manager = await nats.jetstreamManager();
    const stream = laterStream(namespace);
    const subjects = subjectsOf(namespace);
    const due: { token: string; dueMs: number; headers: MsgHdrs; data: Uint8Array }[] = [];
    for (const subject of await waiting(manager, stream, subjects.later('*'))) {
      const message = await manager.streams.getMessage(stream, { last_by_subj: subject });
      const given = [...message.header].map(([name, values]) => [name, values.at(-1) ?? '']);
      const { dueMs } = dueEvent(
        Object.fromEntries(given) as Record<string, string>,
        message.data,
        namespace,
      );
      const token = subject.slice(subjects.later('').length);
      if (dueMs <= untilMs) due.push({ token, dueMs, headers: message.header, data: message.data });
    }
    due.sort((left, right) => left.dueMs - right.dueMs);
    for (const { token, headers, data } of due) {
      const own = newHeaders();
      for (const [name, values] of headers) {
        if (!name.startsWith('Nats-')) own.set(name, values.at(-1) ?? '');
      }
      await nats.jetstream().publish(subjects.due(token), data, { headers: own });
      await manager.streams.purge(stream, { filter: subjects.later(token) });
    }
    return due.length;
  } finally {
    await nats.close();
  }
}

/** None where nothing was ever to come later. */
async function waiting(
  manager: JetStreamManager,
  stream: string,
  filter: string,
): Promise<string[]> {
  try {
    const { state } = await manager.streams.info(stream, { subjects_filter: filter });
    return Object.keys(state.subjects ?? {});
  } catch (error) {
    if ((error as Error).message === NO_STREAM) return [];
    throw error;
  }
}
