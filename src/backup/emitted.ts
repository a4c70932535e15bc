/**
 * Events that must not be in a backup though its streams have them (docs/backup.md, K3): those of transactions that committed
 * after the moment it is of.
 */
import type { Msg } from 'nats';
import type { LogStreams } from '../bus/log-streams.ts';
import { MillraceError } from '../core/errors.ts';
import { decodeAppend } from '../core/state/append.ts';
import { decodeRecords } from '../core/state/records.ts';
import { subjectsOf } from '../core/subjects.ts';
import { decodeEmit } from '../state/outbox.ts';

const ID_HEADER = 'Nats-Msg-Id';

/** What an emitted event is known by in a stream. Transactions whose decisions lie behind `from`, up to `to`. */
export async function emittedBetween(
  streams: LogStreams,
  from: number,
  to: number,
): Promise<Set<string>> {
  const ids = new Set<string>();
  for (const journal of await streams.journals()) {
    await streams.journal(journal).read(from + 1, to, (_sequence, bytes) => {
      const append = decodeAppend(bytes);
      if (append === undefined) throw new MillraceError('UNAVAILABLE', 'The log is corrupt.');
      for (const { records } of append.sections) {
        for (const record of decodeRecords(records)) {
          if (record.kind !== 'decide') continue;
          for (const emit of record.emits) ids.add(decodeEmit(emit).headers.get(ID_HEADER));
        }
      }
    });
  }
  return ids;
}

/** Whether the message is one of them. One that was to come later may have come meanwhile: then its id is in its subject alone. */
export function isEmitted(
  { headers, subject }: Pick<Msg, 'headers' | 'subject'>,
  ids: ReadonlySet<string>,
  namespace: string,
): boolean {
  const due = subjectsOf(namespace).due('');
  const id = subject.startsWith(due) ? subject.slice(due.length) : headers?.get(ID_HEADER);
  return id !== undefined && ids.has(id);
}
