import { defineFunction } from 'millrace';
import { z } from 'zod';

/** All balances at one moment, while transfers go on. */
export default defineFunction({
  name: 'total',
  description: 'Adds up the balances of accounts.',
  input: z.object({ accounts: z.array(z.string().min(1)).max(10_000) }),
  async handler({ data }, ctx) {
    const accounts = ctx.state<number>('accounts');
    const balances = await Promise.all(data.accounts.map(async (name) => accounts.get(name)));
    return balances.reduce<number>((sum, balance) => sum + (balance ?? 0), 0);
  },
});
