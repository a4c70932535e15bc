/** Whether the broker's messages are large enough for what the settings allow. */
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';

/** Of a message, for what is not the transaction itself: lists of partitions, frames, headers. */
const MESSAGE_ROOM_BYTES = 64 * 1024;

/** Throws USAGE where what a transaction may write would not fit into a message: it would fail after it was decided. */
export function assertFits(maxMessageBytes: number, settings: Settings): void {
  const { maxTransactionBytes, maxAppendBytes, snapshotChunkBytes, maxValueBytes } = settings;
  const needs = {
    maxTransactionBytes,
    maxAppendBytes,
    'snapshotChunkBytes and maxValueBytes': snapshotChunkBytes + maxValueBytes,
  };
  for (const [names, bytes] of Object.entries(needs)) {
    if (bytes + MESSAGE_ROOM_BYTES <= maxMessageBytes) continue;
    throw new MillraceError(
      'USAGE',
      `The broker takes messages of at most ${maxMessageBytes} bytes, too few for ${names} (${bytes} bytes, and ${MESSAGE_ROOM_BYTES} for what is around): raise max_payload of nats-server, or lower the setting.`,
    );
  }
}
