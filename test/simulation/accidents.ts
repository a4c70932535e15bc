/** Crashes, pauses, and partitions that are moved for no reason, from time to time. */
import type { Cluster } from './cluster.ts';
import type { Plan } from './plan.ts';

export class Accidents {
  stopped = false;
  readonly #cluster: Cluster;
  readonly #everyMs: number;
  readonly #moves: number;
  #left: number;

  constructor(cluster: Cluster, { accidents, accidentEveryMs, moves }: Plan) {
    this.#cluster = cluster;
    this.#everyMs = accidentEveryMs;
    this.#left = accidents;
    this.#moves = moves;
    this.#next();
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
