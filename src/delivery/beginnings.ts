/** From where on the subjects of a function count. */
import type { StreamEvent } from '../bus/stream-tail.ts';
import { subjectMatches } from '../core/names.ts';
import type { CursorEntry } from './cursors.ts';

export class Beginnings {
  /** Former subjects too. */
  readonly #since: readonly [subject: string, since: number][];
  /** From here on all of them count. */
  readonly #all: number;
  /** What the cursor had open when it began: wanted in any case. */
  readonly #open: ReadonlySet<number>;

  constructor({ subjects, open }: CursorEntry) {
    this.#since = Object.entries(subjects);
    this.#all = Math.max(...Object.values(subjects));
    this.#open = new Set(open.map(([sequence]) => sequence));
  }

  /** Was it stored before the function had its subject, or handled under the version before? */
  isEarly({ sequence, subject }: StreamEvent): boolean {
    if (sequence >= this.#all || this.#open.has(sequence)) return false;
    return !this.#since.some(
      ([pattern, since]) => sequence >= since && subjectMatches(pattern, subject),
    );
  }
}
