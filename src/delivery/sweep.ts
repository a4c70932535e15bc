/**
 * Removes markers of keys that nobody asks for any more (SPEC.md, "Markers"): each worker those of the partitions that it
 * owns.
 */
import { floorName, MARKERS, readKeyMarker } from '../core/delivery/marker.ts';
import type { Settings } from '../core/settings.ts';
import { Attempt, isInterrupted } from '../state/attempt.ts';
import type { StateService } from '../state/service.ts';
import { lowestOf, type CursorEntry } from './cursors.ts';

/** In one transaction. */
const BATCH_KEYS = 256;
const TRANSACTION_MS = 10_000;

/** Resolves with how many it has removed. What others have locked is left for the next time. */
export async function sweepMarkers(
  { hosting, transactions }: StateService,
  settings: Settings,
  entries: readonly CursorEntry[],
  nowMs: number,
): Promise<number> {
  const floors = new Map(
    entries.map((entry) => [floorName(entry.function, entry.stream), lowestOf(entry)] as const),
  );
  const beforeMs = nowMs - settings.answerKeepMs;
  const isOver = (item: string, value: string): boolean => {
    const marker = readKeyMarker(item, value);
    if (marker === undefined || marker.settledAtMs > beforeMs) return false;
    return marker.sequence < (floors.get(marker.source) ?? Infinity);
  };
  let removed = 0;
  // They may change meanwhile.
  const owned = Array.from(hosting.owners.values(), ({ machine }) => machine);
  for (const machine of owned) {
    const over = machine.items.ownItems(MARKERS).filter(([item, value]) => isOver(item, value));
    for (let at = 0; at < over.length; at += BATCH_KEYS) {
      const keys = over.slice(at, at + BATCH_KEYS).map(([item]) => item);
      const transaction = transactions.begin(performance.now() + TRANSACTION_MS);
      const attempt = new Attempt(transaction, settings, new Set());
      try {
        for (const key of keys) {
          const value = await attempt.read(key, true);
          if (value === null || !isOver(key, value)) continue;
          attempt.write(key, null);
          removed += 1;
        }
        await attempt.commit([]);
      } catch (error) {
        if (!isInterrupted(error)) throw error;
      } finally {
        transactions.ended(transaction);
      }
    }
  }
  return removed;
}
