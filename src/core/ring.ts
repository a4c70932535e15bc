/**
 * Consistent hashing. Each node stands at many points (virtual nodes) of a circle of 2^32 positions, and owns what lies
 * between each of its points and the one before. A node that comes takes only what lies before its own points, one
 * that goes gives only that away: nothing changes hands between two that are there before and after.
 *
 * Used twice: keys to partitions (`KeyRing`), partitions to workers (`assignment.ts`).
 */
import { hash32 } from './hash.ts';

/** More points make shares more even (they differ by about 1 / √points) and rings larger and slower to build. */
export const POINTS_PER_WEIGHT = 256;

/** Of a whole ring. A point's position and then its node's index are sorted as one number, whose 53 bits hold both. */
const MAX_POINTS = 2 ** 20;

export interface RingNode {
  id: string;
  /** Relative to the other nodes; 1 stands for `POINTS_PER_WEIGHT` points. */
  weight: number;
}

export class HashRing {
  /** In order of id, so that the answers do not depend on the order in which nodes were named. */
  private readonly ids: readonly string[];
  /** Where the points are, ascending. */
  private readonly positions: Uint32Array;
  /** Whose they are: an index into `ids` for each of `positions`. */
  private readonly owners: Uint32Array;

  /**
   * Every node gets at least one point. Throws RangeError without nodes, with two of the same id, for a weight that is
   * not above 0, and for more than 2^20 points in all.
   */
  constructor(nodes: readonly RingNode[]) {
    if (nodes.length === 0) throw new RangeError('a ring has at least one node');
    const sorted = nodes.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    this.ids = sorted.map(({ id }) => id);
    const points: number[] = [];
    for (const [index, { id, weight }] of sorted.entries()) {
      if (id === this.ids[index + 1]) throw new RangeError(`two nodes of the ring are named ${id}`);
      if (!(weight > 0)) throw new RangeError(`the weight of ${id} must be above 0, not ${weight}`);
      const count = Math.max(1, Math.round(weight * POINTS_PER_WEIGHT));
      if (points.length + count > MAX_POINTS) {
        throw new RangeError(`a ring has at most ${MAX_POINTS} points, which ${id} exceeds`);
      }
      for (let point = 0; point < count; point += 1) {
        points.push(hash32(`${id}#${point}`) * MAX_POINTS + index);
      }
    }
    const ordered = Float64Array.from(points).sort();
    this.positions = Uint32Array.from(ordered, (point) => Math.floor(point / MAX_POINTS));
    this.owners = Uint32Array.from(ordered, (point) => point % MAX_POINTS);
  }

  /** The node of the first point at or after `hash` (0 to 2^32 - 1). */
  owner(hash: number): string {
    return this.idAt(this.firstPoint(hash));
  }

  /** All nodes, each once, in the order in which their points come from `hash` (0 to 2^32 - 1) on. */
  *walk(hash: number): Generator<string, void> {
    const seen = new Set<number>();
    const { owners } = this;
    for (let point = this.firstPoint(hash); seen.size < this.ids.length; point += 1) {
      const owner = owners[point % owners.length] as number;
      if (seen.has(owner)) continue;
      seen.add(owner);
      yield this.ids[owner] as string;
    }
  }

  private firstPoint(hash: number): number {
    const { positions } = this;
    let low = 0;
    let high = positions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((positions[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** `point` may be one past the last: the circle goes on with the first. */
  private idAt(point: number): string {
    const owner = this.owners[point % this.owners.length] as number;
    return this.ids[owner] as string;
  }
}
