import { defineFunction } from 'millrace';
import { add, type SumRequest } from '../work.ts';

export default defineFunction({
  delivery: 'ephemeral',
  balance: 'least-loaded',
  handler: ({ data }) => add(data as SumRequest),
});
