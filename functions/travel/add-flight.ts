import { defineFunction } from 'millrace';
import { z } from 'zod';

export default defineFunction({
  name: 'add-flight',
  description: 'Offers a flight, or changes how many seats it has.',
  input: z.object({ flight: z.string().min(1), seats: z.number().int().nonnegative().max(1_000) }),
  async handler({ data: { flight, seats } }, ctx) {
    await ctx.state<number>('flights').set(flight, seats);
    return { flight, seats };
  },
});
