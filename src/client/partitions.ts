/** How many partitions keys lie on: asked for, and changed while all goes on. */
import type { Bus } from '../bus/connection.ts';
import { MillraceError } from '../core/errors.ts';
import { MAX_PARTITIONS } from '../core/key-ring.ts';
import type { Settings } from '../core/settings.ts';
import type { InspectedPartition } from '../core/state-report.ts';
import { isSource, isTarget, type Layout } from '../core/state/layout.ts';
import { subjectsOf } from '../core/subjects.ts';
import { answerOf, inspect } from './inspect.ts';

export interface InspectedLayout {
  /** How many partitions keys lie on, */
  from: number;
  /** and are to lie on: the same while nothing changes. */
  to: number;
  /** How many changes there have been, the present one among them. */
  generation: number;
  /** Of a change: how many pairs of partitions give each other keys, and how many of these have not done so yet. */
  moves: number;
  movesLeft: number;
}

/** Beside the workers' own wait for each other. */
const MARGIN_MS = 2_000;

export class Partitions {
  readonly #bus: Bus;
  readonly #settings: Settings;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
  }

  /** Rejects as `inspect.partitions` does. */
  async layout(): Promise<InspectedLayout> {
    const { layout, partitions } = (await inspect(this.#bus, this.#settings, 'partitions')) as {
      layout: Layout;
      partitions: InspectedPartition[];
    };
    const of = (does: typeof isSource): InspectedPartition[] =>
      partitions.filter(({ id }) => does(layout, id));
    const [sources, targets] = [of(isSource), of(isTarget)];
    const moves = layout.from === layout.to ? 0 : sources.length * targets.length;
    // One without an owner says nothing of its moves: those at their other ends do.
    const movesLeft = Math.max(sumOf(sources), sumOf(targets));
    return { ...layout, moves, movesLeft };
  }

  /**
   * Begins to change their number, 1 to 256, and says which change that is; `layout` says how far it is, once a worker has heard of it. Everything goes on meanwhile, and only keys
   * whose partition changes are moved. Rejects with INVALID_INPUT, STATE_FULL when one would not hold what it is to
   * have, and UNAVAILABLE while another change is under way, or no worker runs.
   */
  async set(partitions: number): Promise<Layout> {
    if (!Number.isInteger(partitions) || partitions < 1 || partitions > MAX_PARTITIONS) {
      throw new MillraceError(
        'INVALID_INPUT',
        `The number of partitions must be 1 to ${MAX_PARTITIONS}, not ${partitions}.`,
      );
    }
    const { namespace, inspectTimeoutMs } = this.#settings;
    const question = Buffer.from(JSON.stringify({ partitions }));
    const subject = subjectsOf(namespace).statePartitions;
    const message = await this.#bus.request(subject, question, inspectTimeoutMs + MARGIN_MS);
    return answerOf(message) as Layout;
  }
}

function sumOf(partitions: readonly InspectedPartition[]): number {
  return partitions.reduce((sum, { moves }) => sum + moves, 0);
}
