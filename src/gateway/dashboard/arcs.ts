/** Geometry of the ring. Pure; angles in turns, from the top, clockwise. */
import { KeyRing } from '../../core/key-ring.ts';

export interface Share {
  partition: number;
  /** Of all keys. */
  share: number;
  from: number;
  to: number;
}

/** Partitions side by side, each as wide as its share of the ring. */
export function sharesOf(slots: Uint16Array, partitions: number): Share[] {
  const counts = new Uint32Array(partitions);
  for (const partition of slots) counts[partition] = (counts[partition] ?? 0) + 1;
  let at = 0;
  return Array.from(counts, (counted, partition) => {
    const share = counted / slots.length;
    const from = at;
    at += share;
    return { partition, share, from, to: at };
  });
}

/** All places that the ring tells apart: core/key-ring.ts. */
export const SLOTS = 2 ** 16;

/** Which partition is where on the ring. */
export function placesOf(partitions: number): Uint16Array {
  const ring = new KeyRing(partitions);
  return Uint16Array.from({ length: SLOTS }, (_, slot) =>
    ring.partitionAt((slot / SLOTS) * 2 ** 32),
  );
}

export function pointAt(turn: number, radius: number): [x: number, y: number] {
  const angle = turn * 2 * Math.PI;
  return [radius * Math.sin(angle), -radius * Math.cos(angle)];
}

/** The path of a piece of a ring; a whole turn is two pieces, for an arc cannot be one. */
export function arcPath(from: number, to: number, inner: number, outer: number): string {
  if (to - from > 0.999) {
    const middle = (from + to) / 2;
    return `${arcPath(from, middle, inner, outer)}${arcPath(middle, to - 1e-6, inner, outer)}`;
  }
  const large = to - from > 0.5 ? 1 : 0;
  const at = (turn: number, radius: number): string =>
    pointAt(turn, radius)
      .map((value) => value.toFixed(2))
      .join(' ');
  return `M${at(from, outer)}A${outer} ${outer} 0 ${large} 1 ${at(to, outer)}L${at(to, inner)}A${inner} ${inner} 0 ${large} 0 ${at(from, inner)}Z`;
}
