import { defineFunction } from 'millrace';
import { z } from 'zod';

/** Sorts GitHub's webhooks by what happened: `github.issues` with the action `opened` becomes `tally.issues.opened`. */
export default defineFunction({
  name: 'github-webhook',
  description: 'Sorts GitHub webhooks by event and action.',
  on: 'github.*',
  input: z.looseObject({ action: z.string().optional() }),
  async handler({ id, subject, data }, ctx) {
    const [, event] = subject.split('.');
    await ctx.emit(`tally.${event}.${data.action ?? 'done'}`, { delivery: id });
  },
});
