import { setTimeout as delay } from 'node:timers/promises';

/** A flush or an unsubscribe that takes longer finds the connection down. */
const UNSUBSCRIBE_TIMEOUT_MS = 2_000;
/** A connection that is down must not hold up the end. */
export async function unlessDown(done: Promise<void>): Promise<void> {
  await Promise.race([done.catch(() => {}), delay(UNSUBSCRIBE_TIMEOUT_MS)]);
}
