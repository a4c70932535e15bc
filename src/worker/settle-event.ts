/** D1: a durable event is settled by the transaction of its effects. */
import { markerKey, settle, type Delivery } from '../core/delivery/marker.ts';
import type { Attempt } from '../state/attempt.ts';

/** Commits what the handler has written and emitted; where the event is settled already, nothing of it. */
export async function settleWith(
  attempt: Attempt,
  functionName: string,
  delivery: Delivery,
  emits: readonly Uint8Array[],
): Promise<void> {
  attempt.over();
  const key = markerKey(functionName, delivery);
  const marker = settle(await attempt.read(key, true), delivery);
  if (marker === undefined) attempt.forgetWrites();
  else attempt.write(key, marker);
  await attempt.commit(marker === undefined ? [] : emits);
}

/** True when the event is settled: then its transaction is at its end. */
export async function endIfSettled(
  attempt: Attempt,
  functionName: string,
  delivery: Delivery,
): Promise<boolean> {
  const marker = await attempt.read(markerKey(functionName, delivery), true);
  if (settle(marker, delivery) !== undefined) return false;
  await attempt.commit([]);
  return true;
}
