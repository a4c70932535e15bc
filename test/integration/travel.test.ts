import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import addFlight from '../../functions/travel/add-flight.ts';
import addHotel from '../../functions/travel/add-hotel.ts';
import bookTrip from '../../functions/travel/book-trip.ts';
import cancelTrip from '../../functions/travel/cancel-trip.ts';
import reserveRoom from '../../functions/travel/reserve-room.ts';
import reserveSeat from '../../functions/travel/reserve-seat.ts';
import { connect, type Mill } from '../../src/client/client.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';

const functions = [addFlight, addHotel, bookTrip, cancelTrip, reserveRoom, reserveSeat];
const TWO_NIGHTS = { inDate: '2027-02-27', outDate: '2027-03-01' };
const NIGHTS = ['2027-02-27', '2027-02-28'];
/** A handler's own refusal, and how a trip fails when a function that it calls refuses. */
const REFUSED = { code: 'INVALID_INPUT', retryable: false };
const TRIP_REFUSED = {
  code: 'FUNCTION_FAILED',
  retryable: false,
  details: { code: 'INVALID_INPUT' },
};

describe('a trip', () => {
  let broker: TestBroker;
  let workers: TestWorker[];
  let mill: Mill;

  beforeAll(async () => {
    broker = await startTestBroker();
    workers = [
      await startTestWorker(broker.url, functions),
      await startTestWorker(broker.url, functions),
    ];
    mill = await connect({ servers: broker.url });
  });

  afterAll(async () => {
    await mill.close();
    for (const worker of workers) await worker.stop();
    await broker.stop();
  });

  /** The names that a flight or a night has; none where nobody has ever reserved. */
  async function namesIn(collection: 'passengers' | 'guests', key: string): Promise<unknown> {
    const { value } = await mill.inspect
      .state(collection, key)
      .catch((error: { code?: string }) => {
        if (error.code !== 'NOT_FOUND') throw error;
        return { value: [] };
      });
    return value;
  }

  async function guests(hotel: string): Promise<unknown[]> {
    return Promise.all(NIGHTS.map(async (night) => namesIn('guests', `${hotel} ${night}`)));
  }

  async function nothingIsLeftOpen(): Promise<void> {
    expect((await mill.inspect.transactions()).active).toEqual([]);
  }

  it('takes a seat and a room for each of its nights', async () => {
    await mill.invoke(addFlight, { flight: 'MR1', seats: 1 });
    await mill.invoke(addHotel, { hotel: 'Ritz', rooms: 2 });
    const stays = [{ hotel: 'Ritz', ...TWO_NIGHTS }];
    await mill.invoke(bookTrip, { trip: 't1', customer: 'ann', flight: 'MR1', stays });
    expect(await namesIn('passengers', 'MR1')).toEqual(['ann']);
    expect(await guests('Ritz')).toEqual([['ann'], ['ann']]);
    // The day of departure is free for the next guest.
    expect(await namesIn('guests', `Ritz ${TWO_NIGHTS.outDate}`)).toEqual([]);
    await expect(
      mill.invoke(bookTrip, { trip: 't1', customer: 'ann', stays }),
    ).rejects.toMatchObject(REFUSED);
  });

  it('gives everything back when it is cancelled, once', async () => {
    await mill.invoke(reserveRoom, { customer: 'bob', hotel: 'Ritz', ...TWO_NIGHTS });
    await mill.invoke(cancelTrip, { trip: 't1' });
    expect(await namesIn('passengers', 'MR1')).toEqual([]);
    expect(await guests('Ritz')).toEqual([['bob'], ['bob']]);
    await expect(mill.invoke(cancelTrip, { trip: 't1' })).rejects.toMatchObject(REFUSED);
  });

  it('whose hotel is full leaves the seat free', async () => {
    await mill.invoke(addFlight, { flight: 'MR2', seats: 5 });
    await mill.invoke(addHotel, { hotel: 'Full', rooms: 0 });
    const stays = [{ hotel: 'Full', ...TWO_NIGHTS }];
    await expect(
      mill.invoke(bookTrip, { trip: 't2', customer: 'ann', flight: 'MR2', stays }),
    ).rejects.toMatchObject(TRIP_REFUSED);
    expect(await namesIn('passengers', 'MR2')).toEqual([]);
  });

  it('whose flight is full leaves the room free', async () => {
    await mill.invoke(addFlight, { flight: 'MR3', seats: 0 });
    await mill.invoke(addHotel, { hotel: 'Plaza', rooms: 5 });
    const stays = [{ hotel: 'Plaza', ...TWO_NIGHTS }];
    await expect(
      mill.invoke(bookTrip, { trip: 't3', customer: 'ann', flight: 'MR3', stays }),
    ).rejects.toMatchObject(TRIP_REFUSED);
    expect(await guests('Plaza')).toEqual([[], []]);
  });

  it('to two hotels gets rooms in both or in neither', async () => {
    await mill.invoke(addHotel, { hotel: 'North', rooms: 2 });
    await mill.invoke(addHotel, { hotel: 'South', rooms: 1 });
    const stays = [
      { hotel: 'North', ...TWO_NIGHTS },
      { hotel: 'South', ...TWO_NIGHTS },
    ];
    await mill.invoke(bookTrip, { trip: 't4', customer: 'ann', stays });
    await expect(
      mill.invoke(bookTrip, { trip: 't5', customer: 'bob', stays }),
    ).rejects.toMatchObject(TRIP_REFUSED);
    expect(await guests('North')).toEqual([['ann'], ['ann']]);
    expect(await guests('South')).toEqual([['ann'], ['ann']]);
  });

  it('whose second night is full leaves the first one free', async () => {
    await mill.invoke(addHotel, { hotel: 'Inn', rooms: 1 });
    const secondNight = { inDate: '2027-02-28', outDate: '2027-03-01' };
    await mill.invoke(reserveRoom, { customer: 'ann', hotel: 'Inn', ...secondNight });
    const stays = [{ hotel: 'Inn', ...TWO_NIGHTS }];
    await expect(
      mill.invoke(reserveRoom, { customer: 'bob', hotel: 'Inn', ...TWO_NIGHTS }),
    ).rejects.toMatchObject(REFUSED);
    // Several times, so that the room is reserved on the trip's own worker and on the other one.
    for (let round = 0; round < 10; round += 1) {
      await expect(
        mill.invoke(bookTrip, { trip: 't6', customer: 'bob', stays }),
      ).rejects.toMatchObject(TRIP_REFUSED);
    }
    expect(await guests('Inn')).toEqual([[], ['ann']]);
    await nothingIsLeftOpen();
  });

  it('with two stays in the same hotel counts both', async () => {
    await mill.invoke(addHotel, { hotel: 'Twice', rooms: 3 });
    const stay = { hotel: 'Twice', ...TWO_NIGHTS };
    const tooMany = [stay, { ...stay, rooms: 3 }];
    await expect(
      mill.invoke(bookTrip, { trip: 't7', customer: 'ann', stays: tooMany }),
    ).rejects.toMatchObject(TRIP_REFUSED);
    const stays = [stay, { ...stay, rooms: 2 }];
    await mill.invoke(bookTrip, { trip: 't7', customer: 'ann', stays });
    expect(await guests('Twice')).toEqual(NIGHTS.map(() => ['ann', 'ann', 'ann']));
  });

  it('with an impossible stay is refused as it comes in', async () => {
    const backwards = { inDate: '2027-03-01', outDate: '2027-02-27' };
    for (const stay of [backwards, { inDate: '2027-02-30', outDate: '2027-03-02' }]) {
      const stays = [{ hotel: 'Ritz', ...stay }];
      await expect(
        mill.invoke(bookTrip, { trip: 't8', customer: 'ann', stays }),
      ).rejects.toMatchObject(REFUSED);
    }
  });

  it('gets one of the last rooms or nothing, when a hundred want them at once', async () => {
    await mill.invoke(addFlight, { flight: 'MR9', seats: 10 });
    await mill.invoke(addHotel, { hotel: 'Last', rooms: 7 });
    const stays = [{ hotel: 'Last', ...TWO_NIGHTS }];
    const customers = Array.from({ length: 100 }, (_, index) => `customer-${index}`);
    const outcomes = await Promise.allSettled(
      customers.map(async (customer) =>
        mill.invoke(bookTrip, { trip: customer, customer, flight: 'MR9', stays }),
      ),
    );
    const booked = customers.filter((_, index) => outcomes[index]?.status === 'fulfilled').sort();
    const refusals = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(booked).toHaveLength(7);
    for (const refusal of refusals) expect(refusal).toMatchObject(TRIP_REFUSED);
    // Who was told yes has his places, and nobody else has any.
    for (const names of [await namesIn('passengers', 'MR9'), ...(await guests('Last'))]) {
      expect((names as string[]).toSorted()).toEqual(booked);
    }
    await nothingIsLeftOpen();
  });

  it('gets the places that others give back', async () => {
    await mill.invoke(addFlight, { flight: 'MR10', seats: 5 });
    await mill.invoke(addHotel, { hotel: 'Busy', rooms: 4 });
    const stays = [{ hotel: 'Busy', ...TWO_NIGHTS }];
    const refusals: unknown[] = [];
    const travel = async (customer: string): Promise<void> => {
      const trip = { trip: customer, customer, flight: 'MR10', stays };
      const booked = await mill.invoke(bookTrip, trip).catch((error: unknown) => {
        refusals.push(error);
      });
      if (booked === undefined) return travel(customer);
      await mill.invoke(cancelTrip, { trip: customer });
    };
    await Promise.all(Array.from({ length: 30 }, async (_, index) => travel(`traveller-${index}`)));
    for (const refusal of refusals) expect(refusal).toMatchObject(TRIP_REFUSED);
    expect(await namesIn('passengers', 'MR10')).toEqual([]);
    expect(await guests('Busy')).toEqual([[], []]);
    await nothingIsLeftOpen();
  });
});
