/** Crashes, pauses, and partitions that are moved for no reason, from time to time. */
import type { Cluster } from './cluster.ts';
import type { Plan } from './plan.ts';

const MAX_PARTITIONS = 7;

export class Accidents {
  stopped = false;
  readonly #cluster: Cluster;
  readonly #everyMs: number;
  readonly #moves: number;
  #left: number;

  constructor(
    cluster: Cluster,
    { accidents, accidentEveryMs, moves, changes, changeEveryMs }: Plan,
  ) {
    this.#cluster = cluster;
    this.#everyMs = accidentEveryMs;
    this.#left = accidents;
    this.#moves = moves;
    this.#next();
    this.#change(changes, changeEveryMs);
  }

  /** One change after the other; the next begins soon after the one before, or while it is not over: then nothing happens. */
  #change(left: number, everyMs: number): void {
    const { clock, random } = this.#cluster;
    clock.after(random.between(0, 2 * everyMs), undefined, () => {
      this.#cluster.endChange();
      if (left > 0 && !this.stopped) this.#cluster.change(1 + random.below(MAX_PARTITIONS));
      const over = this.#cluster.layout.from === this.#cluster.layout.to;
      if (left > 0 || !over) this.#change(Math.max(0, left - 1), everyMs);
    });
  }

  #next(): void {
    const { clock, random } = this.#cluster;
    if (this.#left === 0) return;
    this.#left -= 1;
    clock.after(random.between(0, 2 * this.#everyMs), undefined, () => {
      if (this.stopped) return;
      this.#happen();
      this.#next();
    });
  }

  #happen(): void {
    const { random, nodes, partitions } = this.#cluster;
    const node = random.pick(nodes);
    // Two may believe to own it for a while.
    if (random.chance(this.#moves)) this.#cluster.take(node, random.below(partitions));
    else if (random.chance(0.6)) this.#cluster.replace(node);
    else {
      this.#cluster.pause(node, random.pick([50, 500, 5_000]));
      this.#cluster.ensureOwners();
    }
  }
}
