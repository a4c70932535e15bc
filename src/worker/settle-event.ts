/** D1: durable events are settled by the transaction of their effects. */
import { markerKey, settle, type Delivery } from '../core/delivery/marker.ts';
import type { Attempt } from '../state/attempt.ts';

/**
 * Commits what the handler has written and emitted. Where one of the events is settled already, nothing of it: resolves
 * with the sequences of those that are. `past`: those of which that is known without their markers, which may be gone.
 */
export async function settleWith(
  attempt: Attempt,
  functionName: string,
  deliveries: readonly Delivery[],
  emits: readonly Uint8Array[],
  past: ReadonlySet<number>,
): Promise<ReadonlySet<number>> {
  const settled = new Set(past);
  const markers = new Map<string, string>();
  for (const delivery of deliveries) {
    const key = markerKey(functionName, delivery);
    const marker = settle(
      markers.get(key) ?? (await attempt.read(key, true)),
      delivery,
      Date.now(),
    );
    if (marker === undefined) settled.add(delivery.sequence);
    else markers.set(key, marker);
  }
  if (settled.size > 0) attempt.forgetWrites();
  else for (const [key, marker] of markers) attempt.write(key, marker);
  await attempt.commit(settled.size > 0 ? [] : emits);
  return settled;
}

/** Asked in a transaction of its own, so that a handler that takes its time keeps no marker locked. */
export async function settledOf(
  attempt: Attempt,
  functionName: string,
  deliveries: readonly Delivery[],
): Promise<ReadonlySet<number>> {
  const settled = new Set<number>();
  for (const delivery of deliveries) {
    const marker = await attempt.read(markerKey(functionName, delivery), false);
    if (settle(marker, delivery, 0) === undefined) settled.add(delivery.sequence);
  }
  await attempt.commit([]);
  return settled;
}
