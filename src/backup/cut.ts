/**
 * The moment that a backup is of: a sequence S of the log's stream (docs/backup.md, K1). All journals and claims lie in that one
 * stream, so what lies up to S is what all partitions would find if all workers died there and then.
 */
import { decodeClaim, type Claim, type Position } from '../core/state/claim.ts';
import { lastOf } from '../core/state/journal.ts';
import { decodeAppend } from '../core/state/append.ts';
import { MillraceError } from '../core/errors.ts';
import type { Layout } from '../core/state/layout.ts';
import type { AssignmentStore } from '../bus/assignment-store.ts';
import type { LogStreams } from '../bus/log-streams.ts';

export interface PartitionCut {
  claim: Claim;
  claimSequence: number;
}

export interface Cut {
  /** ISO 8601. */
  at: string;
  /** S. */
  sequence: number;
  layout: Layout;
  /** By partition; undefined for one that nobody has ever owned. */
  partitions: readonly (PartitionCut | undefined)[];
  /** Of journals that are written to: their last places up to S. */
  ends: ReadonlyMap<string, Position>;
}

/** Partitions change hands, or their number changes, while one looks. */
const MAX_ATTEMPTS = 20;

/** Throws UNAVAILABLE where partitions change hands all the time, or something cannot be read. */
export async function cutLog(streams: LogStreams, store: AssignmentStore): Promise<Cut> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const before = await store.read();
    const partitions = await readClaims(streams, before.owners.length);
    const positions = await openJournals(streams, partitions);
    const at = new Date().toISOString();
    const sequence = await streams.mark();
    // An owner that has changed by now may have done so before S: then its log is not where the claims say.
    const after = await store.read();
    const now = await readClaims(streams, after.owners.length);
    if (!isSame(before.layout, after.layout) || !areSameOwners(partitions, now)) continue;
    const ends = new Map<string, Position>();
    for (const [journal, from] of positions) {
      ends.set(journal, await endOf(streams, journal, from, sequence));
    }
    return { at, sequence, layout: after.layout, partitions, ends };
  }
  throw new MillraceError(
    'UNAVAILABLE',
    'Partitions change hands all the time: try again when the workers have settled.',
  );
}

async function readClaims(
  streams: LogStreams,
  partitions: number,
): Promise<(PartitionCut | undefined)[]> {
  return Promise.all(
    Array.from({ length: partitions }, async (_, partition) => {
      const last = await streams.claims(partition).last();
      if (last === undefined) return undefined;
      const claim = decodeClaim(last.bytes);
      if (claim !== undefined) return { claim, claimSequence: last.sequence };
      throw new MillraceError('UNAVAILABLE', `The claim of partition ${partition} is corrupt.`);
    }),
  );
}

/** Where the journals are that somebody writes to, as far as the claims know. */
async function openJournals(
  streams: LogStreams,
  partitions: readonly (PartitionCut | undefined)[],
): Promise<Map<string, Position>> {
  const open = new Map<string, Position>();
  for (const partition of partitions) {
    const last = partition?.claim.segments.at(-1);
    if (last === undefined || last.to !== undefined || open.has(last.journal)) continue;
    open.set(last.journal, (await lastOf(streams.journal(last.journal))).position);
  }
  return open;
}

async function endOf(
  streams: LogStreams,
  journal: string,
  from: Position,
  sequence: number,
): Promise<Position> {
  let end = from;
  await streams.journal(journal).read(from.sequence + 1, sequence, (at, bytes) => {
    const append = decodeAppend(bytes);
    if (append === undefined) throw new MillraceError('UNAVAILABLE', 'The log is corrupt.');
    end = { index: append.index, sequence: at };
  });
  return end;
}

function isSame(one: Layout, other: Layout): boolean {
  return one.generation === other.generation && one.from === other.from && one.to === other.to;
}

/** An owner may have written another claim of its own, after a snapshot: the one before says as much, as long as nothing is removed. */
function areSameOwners(
  before: readonly (PartitionCut | undefined)[],
  after: readonly (PartitionCut | undefined)[],
): boolean {
  return (
    before.length === after.length &&
    before.every((partition, id) => partition?.claim.epoch === after[id]?.claim.epoch)
  );
}
