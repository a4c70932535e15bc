import { defineFunction } from 'millrace';
import { z } from 'zod';

/** Adds two numbers. */
export default defineFunction({
  name: 'add',
  input: z.object({ left: z.number(), right: z.number() }),
  output: z.number(),
  handler: ({ data }) => data.left + data.right,
});
