import { defineFunction } from 'millrace';
import { z } from 'zod';

/** Counts sorted webhooks; `millrace inspect state tally` shows how many of which. */
export default defineFunction({
  name: 'github-tally',
  description: 'Counts GitHub webhooks by event and action.',
  on: 'tally.*.*',
  input: z.object({ delivery: z.string() }),
  key: ({ subject }) => subject.replace(/^tally\./, ''),
  async handler({ subject, data }, ctx) {
    const kind = subject.replace(/^tally\./, '');
    const tally = ctx.state<number>('tally');
    await tally.set(kind, ((await tally.get(kind)) ?? 0) + 1);
    ctx.log.debug({ kind, delivery: data.delivery }, 'counted');
  },
});
