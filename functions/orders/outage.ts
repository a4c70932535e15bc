import { defineFunction } from 'millrace';
import { z } from 'zod';

export default defineFunction({
  description: 'Says whether the payment provider of the sample is away.',
  input: z.boolean(),
  async handler({ data: away }, ctx) {
    await ctx.state<boolean>('provider').set('away', away);
  },
});
