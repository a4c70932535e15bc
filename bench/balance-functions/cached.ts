import { defineFunction } from 'millrace';
import { add, type SumRequest } from '../work.ts';

export default defineFunction({
  delivery: 'ephemeral',
  cache: { ttlMs: 600_000, maxEntries: 100_000 },
  handler: ({ data }) => add(data as SumRequest),
});
