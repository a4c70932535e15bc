import { defineFunction } from 'millrace';

interface SumRequest {
  a: number;
  b: number;
  pad: string;
}

/** The peers' work as a millrace function. */
export default defineFunction({
  name: 'bench-sum',
  delivery: 'ephemeral',
  handler: (event) => {
    const { a, b } = event.data as SumRequest;
    return { sum: a + b };
  },
});
