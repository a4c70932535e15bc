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

/** Asked in a transaction of its own, so that a handler that takes its time keeps no marker locked. */
export async function isSettledNow(
  attempt: Attempt,
  functionName: string,
  delivery: Delivery,
): Promise<boolean> {
  const marker = await attempt.read(markerKey(functionName, delivery), false);
  await attempt.commit([]);
  return settle(marker, delivery) === undefined;
}
