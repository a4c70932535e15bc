import { defineFunction } from 'millrace';

/** Of the processor, for each call. */
const SPEND_MS = 1;

/** Keeps the processor for a moment and counts in its state, so that calls, transactions and the log all have too much to do. */
export default defineFunction({
  name: 'spend',
  async handler({ data }, ctx) {
    const untilMs = performance.now() + SPEND_MS;
    while (performance.now() < untilMs);
    const counts = ctx.state<number>('counts');
    const key = String(data);
    await counts.set(key, ((await counts.get(key)) ?? 0) + 1);
  },
});
