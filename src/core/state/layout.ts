/** Where keys lie, and where they are to lie: SPEC.md, "Changing the number of partitions". */

export interface Layout {
  /** Grows by one with each change. */
  generation: number;
  /** As many partitions as the ring has by which keys lie, */
  from: number;
  /** and are to lie; the same when nothing is to move. */
  to: number;
}

/** The place of an item on a ring of so many partitions. */
export type Ring = (item: string) => number;
export type Rings = (partitions: number) => Ring;

/** The partitions that keys move away from, by I7; none when nothing moves. */
export function isSource({ from, to }: Layout, partition: number): boolean {
  return partition < from && (to > from || partition >= to);
}

/** Those that they move to. */
export function isTarget({ from, to }: Layout, partition: number): boolean {
  return from !== to && partition < to && (to < from || partition >= from);
}

/** All that `partition` gets keys from, or gives keys to. */
export function counterparts(layout: Layout, partition: number): number[] {
  const all = Array.from({ length: Math.max(layout.from, layout.to) }, (_, each) => each);
  if (isSource(layout, partition)) return all.filter((each) => isTarget(layout, each));
  if (isTarget(layout, partition)) return all.filter((each) => isSource(layout, each));
  return [];
}

/** Where a coordinator believes each key to be. What it gets wrong the partitions put right, by `elsewhere`. */
export class Places {
  layout: Layout;
  readonly #rings: Rings;
  #from: Ring;
  #to: Ring;
  /** The moves of this generation that are done, source and target. */
  readonly #moved = new Set<string>();

  constructor(layout: Layout, rings: Rings) {
    this.layout = layout;
    this.#rings = rings;
    this.#from = rings(layout.from);
    this.#to = rings(layout.to);
  }

  /** False for one that is older than the present one, or the same. */
  adopt(layout: Layout): boolean {
    const { generation, from, to } = this.layout;
    const isNewer =
      layout.generation > generation ||
      (layout.generation === generation && from !== to && layout.from === layout.to);
    if (!isNewer) return false;
    this.layout = layout;
    this.#from = this.#rings(layout.from);
    this.#to = this.#rings(layout.to);
    this.#moved.clear();
    return true;
  }

  partitionOf(item: string): number {
    const from = this.#from(item);
    if (this.layout.from === this.layout.to) return from;
    const to = this.#to(item);
    return from !== to && this.#moved.has(`${from} ${to}`) ? to : from;
  }

  /** All keys of this move have arrived. */
  learn(generation: number, from: number, to: number): void {
    const { layout } = this;
    const moves = isSource(layout, from) && isTarget(layout, to);
    if (generation === layout.generation && moves) this.#moved.add(`${from} ${to}`);
  }
}
