/** Crashes, pauses, and partitions that are moved for no reason, from time to time. */
import type { Cluster } from './cluster.ts';
import type { Plan } from './plan.ts';

export class Accidents {
  stopped = false;
  readonly #cluster: Cluster;
  readonly #everyMs: number;
  #left: number;

  constructor(cluster: Cluster, { accidents, accidentEveryMs }: Plan) {
    this.#cluster = cluster;
    this.#everyMs = accidentEveryMs;
    this.#left = accidents;
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
    const what = random.next();
    if (what < 0.3) this.#cluster.replace(node);
    else if (what < 0.5) {
      this.#cluster.pause(node, random.pick([50, 500, 5_000]));
      this.#cluster.ensureOwners();
    } else {
      // Two may believe to own it for a while.
      this.#cluster.take(node, random.below(partitions));
    }
  }
}
