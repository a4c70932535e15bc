import { defineFunction, MillraceError } from 'millrace';
import { tripSchema, type Trip } from './_trip.ts';
import reserveRoom from './reserve-room.ts';
import reserveSeat from './reserve-seat.ts';

/** Seat and rooms or nothing: what the functions that it calls write is part of its own transaction. */
export default defineFunction({
  name: 'book-trip',
  description: 'Books a flight and stays in hotels, all of them or none.',
  input: tripSchema,
  async handler({ data }, ctx) {
    const { trip, customer, flight, stays } = data;
    const trips = ctx.state<Trip>('trips');
    if ((await trips.get(trip)) !== undefined) {
      throw new MillraceError('INVALID_INPUT', `The trip ${trip} is booked already.`);
    }
    if (flight !== undefined) await ctx.invoke(reserveSeat, { flight, customer });
    // One after the other: each has to see the rooms that the one before has taken, perhaps in the same hotel.
    for (const stay of stays) await ctx.invoke(reserveRoom, { ...stay, customer });
    await trips.set(trip, data);
    return data;
  },
});
