import { z } from 'zod';

const DAY_MS = 86_400_000;
const MAX_NIGHTS = 30;

export const customerSchema = z.string().min(1).max(100);

/** Some rooms of a hotel, from the day of arrival to the day of departure. */
export const staySchema = z
  .object({
    hotel: z.string().min(1),
    inDate: z.iso.date(),
    outDate: z.iso.date(),
    rooms: z.number().int().positive().default(1),
  })
  .refine((stay) => stay.inDate < stay.outDate, 'A stay has at least one night.')
  .refine((stay) => nightCount(stay) <= MAX_NIGHTS, `A stay has at most ${MAX_NIGHTS} nights.`);

export const tripSchema = z
  .object({
    trip: z.string().min(1),
    customer: customerSchema,
    flight: z.string().min(1).optional(),
    stays: z.array(staySchema).max(10).default([]),
  })
  .refine(({ flight, stays }) => flight !== undefined || stays.length > 0, 'The trip is empty.');

export type Trip = z.infer<typeof tripSchema>;

interface Dates {
  inDate: string;
  outDate: string;
}

/** The keys of a stay's nights, `<hotel> <date>`; the night after the day of departure is free for others. */
export function nightsOf(stay: Dates & { hotel: string }): string[] {
  return Array.from({ length: nightCount(stay) }, (_, night) => {
    const date = new Date(Date.parse(stay.inDate) + night * DAY_MS).toISOString().slice(0, 10);
    return `${stay.hotel} ${date}`;
  });
}

/** A date alone is midnight UTC, where every day has 24 hours. */
function nightCount({ inDate, outDate }: Dates): number {
  return (Date.parse(outDate) - Date.parse(inDate)) / DAY_MS;
}
