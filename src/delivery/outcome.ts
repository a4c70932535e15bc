/** What a worker tells a dispatcher about the run of an event, and how the event was named to it. */
import { Packr } from 'msgpackr';
import { z } from 'zod';
import type { Delivery } from '../core/delivery/marker.ts';
import { scanMsgpack } from '../core/msgpack-scan.ts';
import { ContentType, type Encoded, type EncodedBody } from '../core/payload.ts';

/** Of a call that brings an event: beside the event's own headers. */
const DELIVERY_HEADER = 'Millrace-Delivery';

export interface DeliveryHeader extends Delivery {
  id: string;
  subject: string;
  stream: string;
  /** In milliseconds since 1970: when it was stored, and when its dispatcher has read it. */
  timeMs: number;
  heldAtMs: number;
  attempt: number;
  /** It may have run before. */
  again: boolean;
}

/** An event on its way to a function, as it is handed over within one worker. */
export interface DispatchedEvent {
  delivery: DeliveryHeader;
  type: ContentType;
  body: EncodedBody;
  headers: Readonly<Record<string, string>>;
}

/** A list without names: there is one with every event. */
type Fields = [
  id: string,
  subject: string,
  timeMs: number,
  attempt: number,
  again: boolean,
  stream: string,
  heldAtMs: number,
  source: string,
  sequence: number,
  key: string | null,
  below: number,
  open: readonly number[],
];

function writeDelivery(delivery: DeliveryHeader): string {
  const { id, subject, timeMs, attempt, again, stream, heldAtMs } = delivery;
  const { source, sequence, key = null, below } = delivery;
  const place = [source, sequence, key, below, delivery.open] as const;
  const fields: Fields = [id, subject, timeMs, attempt, again, stream, heldAtMs, ...place];
  return JSON.stringify(fields);
}

function isDelivery(fields: unknown): fields is Fields {
  if (!Array.isArray(fields)) return false;
  const [id, subject, timeMs, attempt, again, stream, heldAtMs, ...where] = fields as unknown[];
  const [source, sequence, key, below, open] = where;
  return (
    [id, subject, stream, source, key ?? ''].every((each) => typeof each === 'string') &&
    [timeMs, attempt, heldAtMs, sequence, below].every(Number.isFinite) &&
    typeof again === 'boolean' &&
    Array.isArray(open) &&
    open.every(Number.isFinite)
  );
}

/** Undefined for what no dispatcher of ours has written. */
function readDelivery(text: string): DeliveryHeader | undefined {
  try {
    const fields: unknown = JSON.parse(text);
    if (!isDelivery(fields)) return undefined;
    const [id, subject, timeMs, attempt, again, stream, heldAtMs, ...where] = fields;
    const [source, sequence, key, below, open] = where;
    const place = { source, sequence, key: key ?? undefined, below, open };
    return { id, subject, timeMs, attempt, again, stream, heldAtMs, ...place };
  } catch {
    return undefined;
  }
}

/** What the header says of a call that brings several events; the body has them. */
const BATCH = 'batch';
const packr = new Packr({ useRecords: false, moreTypes: false });
/** A list of events with their headers. */
const BATCH_LIMITS = { maxDepth: 3, maxValues: 262_144 };
const TYPES: readonly unknown[] = Object.values(ContentType);
type Packed = [
  delivery: string,
  type: ContentType,
  headers: Readonly<Record<string, string>>,
  body: EncodedBody,
][];

/** The call that brings them to another worker. `batch`: the function takes several, also where there is one now. */
export function frameOf(
  events: readonly DispatchedEvent[],
  batch: boolean,
): { encoded: Encoded; headers: string } {
  const [first] = events;
  if (!batch && first !== undefined) {
    const { delivery, type, body, headers } = first;
    const all = { ...headers, [DELIVERY_HEADER]: writeDelivery(delivery) };
    return { encoded: { type, body }, headers: JSON.stringify(all) };
  }
  const packed: Packed = events.map(({ delivery, type, headers, body }) => [
    writeDelivery(delivery),
    type,
    headers,
    body,
  ]);
  return {
    encoded: { type: ContentType.bytes, body: packr.pack(packed) },
    headers: JSON.stringify({ [DELIVERY_HEADER]: BATCH }),
  };
}

/** What the call brings: undefined where that is no event. Only our own dispatchers write it. */
export function eventsOf(
  headers: Readonly<Record<string, string>>,
  type: ContentType,
  body: EncodedBody,
): { events: DispatchedEvent[]; batch: boolean } | undefined {
  const { [DELIVERY_HEADER]: text, ...rest } = headers;
  if (text === undefined) return undefined;
  if (text !== BATCH) {
    const delivery = readDelivery(text);
    return delivery && { events: [{ delivery, type, body, headers: rest }], batch: false };
  }
  const events: DispatchedEvent[] = [];
  for (const [written, as, own, data] of unpackBatch(body)) {
    const delivery = readDelivery(written);
    if (delivery === undefined) return undefined;
    events.push({ delivery, type: as, headers: own, body: data });
  }
  return events.length === 0 ? undefined : { events, batch: true };
}

/** Empty for what is none. */
function unpackBatch(body: EncodedBody): Packed {
  if (typeof body === 'string' || scanMsgpack(body, BATCH_LIMITS) !== undefined) return [];
  const list: unknown = packr.unpack(body);
  return Array.isArray(list) && list.every(isPacked) ? list : [];
}

function isPacked(event: unknown): event is Packed[number] {
  if (!Array.isArray(event)) return false;
  const [written, type, headers, body] = event as unknown[];
  return (
    typeof written === 'string' &&
    TYPES.includes(type) &&
    typeof headers === 'object' &&
    headers !== null &&
    Object.values(headers).every((value) => typeof value === 'string') &&
    (typeof body === 'string' || body instanceof Uint8Array)
  );
}

const failureSchema = z.object({
  code: z.string(),
  message: z.string(),
  stack: z.string().optional(),
  retryable: z.boolean(),
  retryAfterMs: z.number().nonnegative().optional(),
  version: z.string(),
  worker: z.string(),
});
/** Of one attempt. */
export type EventFailure = z.infer<typeof failureSchema>;

const MAX_MESSAGE_CHARACTERS = 1_000;
const MAX_STACK_CHARACTERS = 4_000;

const SETTLED = '{}';

export function encodeOutcome(failure?: EventFailure): string {
  if (failure === undefined) return SETTLED;
  const { message, stack } = failure;
  return JSON.stringify({
    ...failure,
    message: message.slice(0, MAX_MESSAGE_CHARACTERS),
    ...(stack === undefined ? {} : { stack: stack.slice(0, MAX_STACK_CHARACTERS) }),
  });
}

/** Without a look at what it says. */
export function saysFailed({ body }: { body: string | Uint8Array }): boolean {
  return body.length > SETTLED.length;
}

/** Undefined: it is settled. */
export function decodeOutcome(text: string): EventFailure | undefined {
  return text === SETTLED ? undefined : failureSchema.parse(JSON.parse(text));
}
