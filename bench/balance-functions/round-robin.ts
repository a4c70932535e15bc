import { defineFunction } from 'millrace';
import { add, type SumRequest } from '../work.ts';

export default defineFunction({
  delivery: 'ephemeral',
  balance: 'round-robin',
  handler: ({ data }) => add(data as SumRequest),
});
