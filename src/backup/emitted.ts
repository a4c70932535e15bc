/**
 * Events that must not be in a backup though its streams have them (docs/backup.md, K3): those of transactions that committed
 * after the moment it is of.
 */
import type { Msg } from 'nats';
import { eventIdOf } from '../bus/event-id.ts';
import { journalName, type LogStreams } from '../bus/log-streams.ts';
import { decodeRecords } from '../core/state/records.ts';
import { subjectsOf } from '../core/subjects.ts';
import { decodeEmit } from '../state/outbox.ts';
import { appendOf } from './cut.ts';
import { Removed } from './removed.ts';

const JOURNALS = journalName('');

/** What an emitted event is known by in its stream. */
function keyOf(subject: string, id: string): string {
  return `${subject} ${id}`;
}

/** Of transactions whose decisions lie behind `from`, up to the mark `to`. Throws Removed where the log has a gap. */
export async function emittedBetween(
  streams: LogStreams,
  from: number,
  to: number,
): Promise<Set<string>> {
  const keys = new Set<string>();
  const indexes = new Map<string, number>();
  await streams.readTo(to, from + 1, {
    names: ['*'],
    onAppend: (name, _sequence, bytes) => {
      if (!name.startsWith(JOURNALS)) return;
      const { index, sections } = appendOf(name, bytes);
      if (index !== (indexes.get(name) ?? index - 1) + 1) {
        throw new Removed('Something of the log was removed while it was read.');
      }
      indexes.set(name, index);
      for (const record of sections.flatMap(({ records }) => decodeRecords(records))) {
        if (record.kind !== 'decide') continue;
        for (const emit of record.emits) {
          const { subject, headers } = decodeEmit(emit);
          keys.add(keyOf(subject, eventIdOf(headers)));
        }
      }
    },
  });
  return keys;
}

/** Whether the message is one of them. One that was to come later may have come meanwhile: then its id is in its subject alone. */
export function isEmitted(
  { headers, subject }: Pick<Msg, 'headers' | 'subject'>,
  keys: ReadonlySet<string>,
  namespace: string,
): boolean {
  const subjects = subjectsOf(namespace);
  if (!subject.startsWith(subjects.due(''))) return keys.has(keyOf(subject, eventIdOf(headers)));
  const token = subject.slice(subjects.due('').length);
  return keys.has(keyOf(subjects.later(token), token));
}
