import { defineFunction, MillraceError } from 'millrace';
import { z } from 'zod';
import { nightsOf, type Trip } from './_trip.ts';

/** The seat and the rooms of all nights are free in the same moment. */
export default defineFunction({
  name: 'cancel-trip',
  description: 'Gives back the seat and the rooms of a trip.',
  input: z.object({ trip: z.string().min(1) }),
  async handler({ data: { trip } }, ctx) {
    const trips = ctx.state<Trip>('trips');
    const booked = await trips.get(trip);
    if (booked === undefined) throw new MillraceError('INVALID_INPUT', `There is no trip ${trip}.`);
    const { customer, flight, stays } = booked;

    const leave = async (collection: 'passengers' | 'guests', key: string): Promise<void> => {
      const places = ctx.state<string[]>(collection);
      const taken = (await places.get(key)) ?? [];
      const left = taken.indexOf(customer);
      await places.set(
        key,
        taken.filter((_, place) => place !== left),
      );
    };
    if (flight !== undefined) await leave('passengers', flight);
    for (const stay of stays) {
      for (const night of nightsOf(stay)) {
        for (let room = 0; room < stay.rooms; room += 1) await leave('guests', night);
      }
    }
    await trips.delete(trip);
    return booked;
  },
});
