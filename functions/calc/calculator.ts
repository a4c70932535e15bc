import { defineFunction } from 'millrace';
import { z } from 'zod';
import sum from './sum.ts';

/** Receives a request and calls the function that adds two numbers, on whichever worker it runs. */
export default defineFunction({
  name: 'calculator',
  description: 'Adds two numbers by calling the function sum.',
  on: 'calc.request',
  delivery: 'ephemeral',
  input: z.object({ left: z.number(), right: z.number() }),
  output: z.object({ sum: z.number(), text: z.string() }),
  async handler({ data: { left, right } }, ctx) {
    const result = await ctx.invoke(sum, { num1: left, num2: right });
    return { sum: result, text: `${left} + ${right} = ${result}` };
  },
});
