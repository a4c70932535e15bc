import { defineFunction } from 'millrace';
import { z } from 'zod';

/** Adds two numbers. Any NATS client can ask it: `nats req calc.sum '{"num1":1,"num2":2}'` gets `3`. */
export default defineFunction({
  name: 'sum',
  description: 'Adds two numbers.',
  on: 'calc.sum',
  delivery: 'ephemeral',
  input: z.object({ num1: z.number(), num2: z.number() }),
  output: z.number(),
  handler: ({ data }) => data.num1 + data.num2,
});
