import { defineFunction, MillraceError } from 'millrace';
import { z } from 'zod';

export default defineFunction({
  name: 'open',
  description: 'Opens an account.',
  input: z.object({ account: z.string().min(1), balance: z.number().int().nonnegative() }),
  async handler({ data: { account, balance } }, ctx) {
    const accounts = ctx.state<number>('accounts');
    if ((await accounts.get(account)) !== undefined) {
      throw new MillraceError('INVALID_INPUT', `The account ${account} is open already.`);
    }
    await accounts.set(account, balance);
    return { account, balance };
  },
});
