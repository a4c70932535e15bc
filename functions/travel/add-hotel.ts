import { defineFunction } from 'millrace';
import { z } from 'zod';

export default defineFunction({
  name: 'add-hotel',
  description: 'Offers a hotel, or changes how many rooms it has each night.',
  input: z.object({ hotel: z.string().min(1), rooms: z.number().int().nonnegative().max(1_000) }),
  async handler({ data: { hotel, rooms } }, ctx) {
    await ctx.state<number>('hotels').set(hotel, rooms);
    return { hotel, rooms };
  },
});
