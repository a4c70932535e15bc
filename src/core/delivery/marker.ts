/** Which events of a function are settled: SPEC.md, "Markers" (D1). Values of items, as text. */

/** Names one event of one function, and says what its dispatcher knows. */
export interface Delivery {
  /** The stream and, for a function with keys, which function finds them. */
  source: string;
  sequence: number;
  /** Undefined for a function without keys. */
  key: string | undefined;
  /** Without a key: how far the dispatcher has read, */
  below: number;
  /** and what it has not seen settled of the event's lane. */
  open: readonly number[];
}

export interface Lane {
  below: number;
  open: readonly number[];
  done: readonly number[];
}

/** For each function and source. More lanes: less that two events have in common. */
export const LANES = 128;

const COLLECTION = '$settled';
/** The first element of what lies in the platform's own collections is the time when it may go: never. */
const NEVER = Number.MAX_SAFE_INTEGER;

export function laneOf(sequence: number): number {
  return sequence % LANES;
}

/** The item. What follows the slash decides its partition: a key's marker lies with the key's state. */
export function markerKey(functionName: string, { source, sequence, key }: Delivery): string {
  return `${COLLECTION}.${functionName}.${source}/${key ?? `lane-${laneOf(sequence)}`}`;
}

/** The marker's new value; undefined when the event is settled already. `nowMs`: since 1970. */
export function settle(
  value: string | null,
  delivery: Delivery,
  nowMs: number,
): string | undefined {
  const { sequence, key } = delivery;
  if (key !== undefined) {
    const [, highest = 0] = value === null ? [] : (JSON.parse(value) as number[]);
    return sequence <= highest ? undefined : JSON.stringify([NEVER, sequence, nowMs]);
  }
  const lane = settleInLane(decodeLane(value), delivery);
  return lane && JSON.stringify([NEVER, lane.below, lane.open, lane.done]);
}

/** What begins the item keys of all markers. */
export const MARKERS = `${COLLECTION}.`;

/** Of a key's marker: whose it is, and what it says. Undefined for a lane. */
export interface KeyMarker {
  /** As `floorName` has it. */
  source: string;
  sequence: number;
  settledAtMs: number;
}

export function readKeyMarker(item: string, value: string): KeyMarker | undefined {
  const [, sequence, settledAtMs] = JSON.parse(value) as unknown[];
  const collection = item.slice(0, item.indexOf('/'));
  // A lane's third element is a list.
  if (typeof sequence !== 'number' || typeof settledAtMs !== 'number') return undefined;
  return { source: collection.slice(0, collection.lastIndexOf('.')), sequence, settledAtMs };
}

/** Names what a cursor says for all keys of a function in a stream, whichever function finds them. */
export function floorName(functionName: string, stream: string): string {
  return `${MARKERS}${functionName}.${stream}`;
}

function decodeLane(value: string | null): Lane {
  if (value === null) return { below: 0, open: [], done: [] };
  const [, below, open, done] = JSON.parse(value) as [number, number, number[], number[]];
  return { below, open, done };
}

/** Undefined when the event is settled already. */
export function settleInLane(lane: Lane, { sequence, below, open }: Delivery): Lane | undefined {
  if (isSettled(lane, sequence)) return undefined;
  // The dispatcher's word where it goes further; what the lane knows to be settled stays so.
  const further: Lane =
    below > lane.below
      ? {
          below,
          open: open.filter((each) => each < below && !isSettled(lane, each)),
          done: lane.done.filter((each) => each >= below),
        }
      : lane;
  return sequence < further.below
    ? { ...further, open: further.open.filter((each) => each !== sequence) }
    : { ...further, done: [...further.done, sequence] };
}

export function isSettled({ below, open, done }: Lane, sequence: number): boolean {
  return sequence < below ? !open.includes(sequence) : done.includes(sequence);
}
