import { defineFunction, MillraceError } from 'millrace';
import { z } from 'zod';
import { customerSchema } from './_trip.ts';

/** Whoever asks at the same time for the last seat: one gets it. */
export default defineFunction({
  name: 'reserve-seat',
  description: 'Reserves a seat of a flight.',
  input: z.object({ flight: z.string().min(1), customer: customerSchema }),
  async handler({ data: { flight, customer } }, ctx) {
    const seats = await ctx.state<number>('flights').get(flight);
    if (seats === undefined) {
      throw new MillraceError('INVALID_INPUT', `There is no flight ${flight}.`);
    }
    const passengers = ctx.state<string[]>('passengers');
    const taken = (await passengers.get(flight)) ?? [];
    if (taken.length >= seats) throw new MillraceError('INVALID_INPUT', `${flight} is full.`);
    await passengers.set(flight, [...taken, customer]);
    return { flight, free: seats - taken.length - 1 };
  },
});
