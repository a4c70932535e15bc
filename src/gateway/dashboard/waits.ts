/** Who waits for whom, as trees: below each transaction those that wait for it. Pure. */
import type { TransactionReport } from '../../core/state-report.ts';

export interface WaitNode {
  id: string;
  /** Undefined for one that only those who wait know of. */
  transaction: TransactionReport | undefined;
  /** What the parent has that this one wants: keys, as `collection/key`. */
  wants: { key: string; partition: number }[];
  waiting: WaitNode[];
}

/** Only what somebody waits for, the one with the most below it first. */
export function waitTrees(active: readonly TransactionReport[]): WaitNode[] {
  const byId = new Map(active.map((one) => [one.id, one]));
  const waiters = new Map<string, Map<string, WaitNode['wants']>>();
  for (const { id, waitsFor } of active) {
    for (const { transaction, key, partition } of waitsFor) {
      const of = waiters.get(transaction) ?? new Map<string, WaitNode['wants']>();
      of.set(id, [...(of.get(id) ?? []), { key, partition }]);
      waiters.set(transaction, of);
    }
  }
  const seen = new Set<string>();
  const node = (id: string, wants: WaitNode['wants']): WaitNode => {
    seen.add(id);
    const waiting = [...(waiters.get(id) ?? [])]
      .filter(([waiter]) => !seen.has(waiter))
      .map(([waiter, wanted]) => node(waiter, wanted));
    return { id, transaction: byId.get(id), wants, waiting };
  };
  const isRoot = (id: string): boolean => (byId.get(id)?.waitsFor.length ?? 0) === 0;
  const roots = [...waiters.keys()].filter(isRoot).map((id) => node(id, []));
  // The reports of several workers are not of one moment: what looks like a circle is begun anywhere.
  const rest = [...waiters.keys()].filter((id) => !seen.has(id));
  for (const id of rest) if (!seen.has(id)) roots.push(node(id, []));
  return roots.sort((a, b) => sizeOf(b) - sizeOf(a));
}

export function sizeOf({ waiting }: WaitNode): number {
  return waiting.reduce((sum, each) => sum + 1 + sizeOf(each), 0);
}
