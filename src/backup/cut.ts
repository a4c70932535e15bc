/**
 * The moment that a backup is of: a sequence S of the log's stream (docs/backup.md, K1). All journals and claims lie in that one
 * stream, so what lies up to S is what all partitions would find if all workers died there and then. All is read up to a message
 * that is known to be there: so nothing can be left out, whichever server answers.
 */
import type { AssignmentStore } from '../bus/assignment-store.ts';
import { claimsName, journalName, type LogStreams } from '../bus/log-streams.ts';
import { MillraceError } from '../core/errors.ts';
import { decodeAppend, type Append } from '../core/state/append.ts';
import { decodeClaim, type Claim, type Position } from '../core/state/claim.ts';
import type { Layout } from '../core/state/layout.ts';
import type { ClosedSegment } from '../core/state/replay.ts';

export interface PartitionCut {
  claim: Claim;
  claimSequence: number;
  /** All that the claim names, up to S. */
  segments: readonly ClosedSegment[];
}

export interface Cut {
  /** ISO 8601. */
  at: string;
  /** S. */
  sequence: number;
  layout: Layout;
  /** By partition; undefined for one that nobody has ever owned. */
  partitions: readonly (PartitionCut | undefined)[];
}

type ClaimAt = Pick<PartitionCut, 'claim' | 'claimSequence'>;

/** Undefined where the number of partitions changed just then: another S will do. Throws UNAVAILABLE where something cannot be read. */
export async function cutLog(
  streams: LogStreams,
  store: AssignmentStore,
): Promise<Cut | undefined> {
  const before = await store.read();
  const at = new Date().toISOString();
  const sequence = await streams.mark();
  const { layout, owners } = await store.read();
  const { generation, from, to } = before.layout;
  if (layout.generation !== generation || layout.from !== from || layout.to !== to)
    return undefined;
  const claims = await readClaims(streams, sequence, owners.length);
  const ends = await readEnds(streams, sequence, claims);
  const partitions = claims.map((claim) => claim && withSegments(claim, ends));
  return { at, sequence, layout, partitions };
}

/** The last ones up to S. */
async function readClaims(
  streams: LogStreams,
  mark: number,
  partitions: number,
): Promise<(ClaimAt | undefined)[]> {
  const last = new Map<string, { sequence: number; bytes: Uint8Array }>();
  const names = Array.from({ length: partitions }, (_, partition) => claimsName(partition));
  await streams.readTo(mark, 1, {
    names,
    onAppend: (name, sequence, bytes) => last.set(name, { sequence, bytes }),
  });
  return names.map((name) => {
    const found = last.get(name);
    if (found === undefined) return undefined;
    const claim = decodeClaim(found.bytes);
    if (claim === undefined) throw corrupt(name);
    return { claim, claimSequence: found.sequence };
  });
}

/** Of the journals that are written to: their last places up to S. */
async function readEnds(
  streams: LogStreams,
  mark: number,
  claims: readonly (ClaimAt | undefined)[],
): Promise<Map<string, Position>> {
  const ends = new Map<string, Position>();
  for (const claim of claims) {
    const last = claim?.claim.segments.at(-1);
    if (last === undefined || last.to !== undefined) continue;
    const known = ends.get(last.journal);
    if (known === undefined || known.index < last.from.index) ends.set(last.journal, last.from);
  }
  for (const [journal, from] of ends) {
    const onAppend = (name: string, sequence: number, bytes: Uint8Array): void => {
      const { index } = appendOf(name, bytes);
      ends.set(journal, { index, sequence });
    };
    await streams.readTo(mark, from.sequence + 1, { names: [journalName(journal)], onAppend });
  }
  return ends;
}

function withSegments(
  { claim, claimSequence }: ClaimAt,
  ends: ReadonlyMap<string, Position>,
): PartitionCut {
  const segments = claim.segments.map((segment) => ({
    ...segment,
    to: segment.to ?? ends.get(segment.journal) ?? segment.from,
  }));
  return { claim, claimSequence, segments };
}

/** Throws UNAVAILABLE where it cannot be read. */
export function appendOf(name: string, bytes: Uint8Array): Append {
  const append = decodeAppend(bytes);
  if (append === undefined) throw corrupt(name);
  return append;
}

function corrupt(name: string): MillraceError {
  const message = `The log is corrupt: something in ${name} cannot be read.`;
  return new MillraceError('UNAVAILABLE', message, { retryable: false });
}
