import { expect, it } from 'vitest';
import {
  Backoff,
  FIRST_RESTART_MS,
  HEALTHY_MS,
  LONGEST_RESTART_MS,
} from '../../src/dev/backoff.ts';

it('waits twice as long each time, up to a limit', () => {
  const backoff = new Backoff();
  const waits = Array.from({ length: 8 }, () => backoff.nextMs(HEALTHY_MS - 1));
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  for (let count = 0; count < 2_000; count += 1) backoff.nextMs(0);
  expect(backoff.nextMs(0)).toBe(LONGEST_RESTART_MS);
});

it('waits shortly again after a healthy stretch', () => {
  const backoff = new Backoff();
  for (let count = 0; count < 5; count += 1) backoff.nextMs(0);
  expect(backoff.nextMs(HEALTHY_MS)).toBe(FIRST_RESTART_MS);
  expect(backoff.nextMs(0)).toBe(2 * FIRST_RESTART_MS);
});
