import { defineFunction, MillraceError } from 'millrace';
import { customerSchema, nightsOf, staySchema } from './_trip.ts';

/** All nights or none: a night without enough rooms leaves those before it free as well. */
export default defineFunction({
  name: 'reserve-room',
  description: 'Reserves rooms of a hotel for each night of a stay.',
  input: staySchema.safeExtend({ customer: customerSchema }),
  async handler({ data: { customer, ...stay } }, ctx) {
    const rooms = await ctx.state<number>('hotels').get(stay.hotel);
    if (rooms === undefined) {
      throw new MillraceError('INVALID_INPUT', `There is no hotel ${stay.hotel}.`);
    }
    // A name for each room that is taken in that night.
    const guests = ctx.state<string[]>('guests');
    for (const night of nightsOf(stay)) {
      const taken = (await guests.get(night)) ?? [];
      const free = rooms - taken.length;
      if (free < stay.rooms) {
        throw new MillraceError(
          'INVALID_INPUT',
          `${night}: ${free} free, less than ${stay.rooms}.`,
        );
      }
      await guests.set(night, [...taken, ...Array<string>(stay.rooms).fill(customer)]);
    }
    return stay;
  },
});
