/** What the machines need of a stream. */
import type { SnapshotPointer } from './claim.ts';

/** One subject of the log stream. Every rejection means that nothing is known of the append's fate but what its `code` says. */
export interface LogPort {
  /** The last message, undefined for none. From the stream's leader. */
  last(): Promise<{ sequence: number; bytes: Uint8Array } | undefined>;
  /** Calls `onAppend` for everything from `from` to `to`, in order, without a gap, or rejects. */
  read(
    from: number,
    to: number,
    onAppend: (sequence: number, bytes: Uint8Array) => void,
  ): Promise<void>;
  /** Resolves with the append's sequence; rejects when another one has followed `expected` (I1), or nothing could be learnt. */
  append(bytes: Uint8Array, expected: number): Promise<number>;
  /** The last sequence on the subject. */
  lastSequence(): Promise<number>;
  /** Removes what lies before `sequence`, never the last message. */
  trim(before: number): Promise<void>;
}

export interface SnapshotPort {
  write(chunks: AsyncIterable<Uint8Array>): Promise<SnapshotPointer>;
  read(pointer: SnapshotPointer, onChunk: (bytes: Uint8Array) => void): Promise<void>;
  removeBefore(sequence: number): Promise<void>;
}
