import { defineFunction } from 'millrace';
import { add, type SumRequest } from '../work.ts';

export default defineFunction({
  delivery: 'ephemeral',
  balance: 'weighted',
  handler: ({ data }) => add(data as SumRequest),
});
