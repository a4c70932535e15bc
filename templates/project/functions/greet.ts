import { defineFunction } from 'millrace';
import { z } from 'zod';

export default defineFunction({
  name: 'greet',
  input: z.object({ name: z.string() }),
  http: { method: 'GET', path: '/greetings/:name' },
  handler: ({ data }) => `Hello ${data.name}`,
});
