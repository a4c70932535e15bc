import { defineFunction } from 'millrace';
import { z } from 'zod';

/** Receives one event for every sorted webhook; `millrace inspect functions --json` shows how many on which subject. */
export default defineFunction({
  name: 'github-tally',
  description: 'Counts GitHub webhooks by event and action.',
  on: 'tally.*.*',
  delivery: 'ephemeral',
  input: z.object({ delivery: z.string() }),
  handler({ subject, data }, ctx) {
    ctx.log.debug({ subject, delivery: data.delivery }, 'counted');
  },
});
