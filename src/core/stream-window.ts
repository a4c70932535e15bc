/** An answer in parts on its way: what sender and reader keep of it. docs/streaming.md. */

/** So many chunks, and bytes of them, may be on their way. A chunk that is larger travels alone. */
export const WINDOW_CHUNKS = 64;
export const WINDOW_BYTES = 256 * 1024;

/** At the sender: what is not taken yet, numbered from 1. */
export class SendWindow<Item> {
  readonly #items: { item: Item; bytes: number }[] = [];
  #bytes = 0;
  #taken = 0;

  /** The number of the last one. */
  get last(): number {
    return this.#taken + this.#items.length;
  }

  get empty(): boolean {
    return this.#items.length === 0;
  }

  get full(): boolean {
    return this.#items.length >= WINDOW_CHUNKS || this.#bytes >= WINDOW_BYTES;
  }

  /** Gives its number. */
  add(item: Item, bytes: number): number {
    this.#items.push({ item, bytes });
    this.#bytes += bytes;
    return this.last;
  }

  /** All up to this number; one that cannot be is ignored. */
  taken(upTo: number): void {
    if (!Number.isSafeInteger(upTo) || upTo > this.last) return;
    while (this.#taken < upTo) {
      this.#taken += 1;
      this.#bytes -= this.#items.shift()?.bytes ?? 0;
    }
  }

  /** What is not taken, with its numbers. */
  *untaken(): Generator<[number: number, item: Item]> {
    for (const [index, { item }] of this.#items.entries()) yield [this.#taken + index + 1, item];
  }
}

/** Of a window this many may be taken before the sender is told. */
const TOLD_EVERY = WINDOW_CHUNKS / 4;
const TOLD_EVERY_BYTES = WINDOW_BYTES / 4;

/** At the reader: what has come in order and is not taken yet. */
export class ReceiveWindow<Item> {
  readonly #items: { item: Item; bytes: number }[] = [];
  #received = 0;
  #told = 0;
  #untoldBytes = 0;

  /** The number of the last one that has come. */
  get received(): number {
    return this.#received;
  }

  get taken(): number {
    return this.#received - this.#items.length;
  }

  get empty(): boolean {
    return this.#items.length === 0;
  }

  /** False for one that is not the next. */
  receive(number: number, item: Item, bytes: number): boolean {
    // No sender of ours has more on its way.
    if (number !== this.#received + 1 || this.#items.length > WINDOW_CHUNKS) return false;
    this.#received = number;
    this.#items.push({ item, bytes });
    return true;
  }

  take(): Item | undefined {
    const first = this.#items.shift();
    this.#untoldBytes += first?.bytes ?? 0;
    return first?.item;
  }

  /** Is it time to tell the sender what is taken? */
  get worthTelling(): boolean {
    const untold = this.taken - this.#told;
    return untold >= TOLD_EVERY || this.#untoldBytes >= TOLD_EVERY_BYTES;
  }

  told(): void {
    this.#told = this.taken;
    this.#untoldBytes = 0;
  }
}
