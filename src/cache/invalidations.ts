/**
 * Says everywhere that kept answers are wrong. What a transaction makes wrong is said by an event that it emits: when it is committed,
 * whoever dies then, and not otherwise. Who was not connected meanwhile has heard nothing, and drops everything.
 */
import { headers as newHeaders, nuid, type Subscription } from 'nats';
import { z } from 'zod';
import type { Bus } from '../bus/connection.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import type { PreparedEvent } from '../bus/publisher.ts';
import { splitItemKey } from '../core/state/keys.ts';
import { subjectsOf } from '../core/subjects.ts';

/** Of one collection or function in one message; more of them mean all. */
const MAX_KEYS = 100;

const keys = z.array(z.string()).nullable();
const invalidationSchema = z.object({
  /** By function: which of its own keys; null for all answers. */
  functions: z.array(z.tuple([z.string(), keys])).optional(),
  /** By collection: which keys were written; null for many. */
  collections: z.array(z.tuple([z.string(), keys])).optional(),
});
export type Invalidation = z.infer<typeof invalidationSchema>;

export function listenToInvalidations(
  bus: Bus,
  namespace: string,
  onInvalidation: (invalidation: Invalidation) => void,
  onGap: () => void,
): { close(): void } {
  const subscription: Subscription = bus.subscribe(subjectsOf(namespace).cache, ({ data }) => {
    const invalidation = readControl(invalidationSchema, data);
    if (invalidation !== undefined) onInvalidation(invalidation);
  });
  const stop = bus.onStatus(onGap);
  return {
    close: () => {
      stop();
      subscription.unsubscribe();
    },
  };
}

export function invalidationEvent(namespace: string, invalidation: Invalidation): PreparedEvent {
  const id = nuid.next();
  const headers = newHeaders();
  headers.set('Nats-Msg-Id', id);
  return { id, subject: subjectsOf(namespace).cache, payload: writeControl(invalidation), headers };
}

/** At once, for what no transaction does. */
export function sayInvalid(bus: Bus, namespace: string, invalidation: Invalidation): void {
  const { subject, payload } = invalidationEvent(namespace, invalidation);
  if (bus.up) bus.publish(subject, payload);
}

/** Of these items, what lies in collections that kept answers depend on. */
export function collectionsOf(
  items: Iterable<string>,
  watched: ReadonlySet<string>,
): [collection: string, keys: string[] | null][] {
  const written = new Map<string, string[] | null>();
  for (const item of items) {
    const { collection, key } = splitItemKey(item);
    if (!watched.has(collection)) continue;
    const known = written.get(collection);
    if (known === undefined) written.set(collection, [key]);
    else if (known !== null && known.length >= MAX_KEYS) written.set(collection, null);
    else known?.push(key);
  }
  return [...written];
}
