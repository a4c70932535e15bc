import { defineFunction, MillraceError } from 'millrace';
import { z } from 'zod';

/** Both accounts change or neither does, wherever they lie and whatever dies meanwhile. */
export default defineFunction({
  name: 'transfer',
  description: 'Moves an amount from one account to another.',
  input: z.object({
    from: z.string().min(1),
    to: z.string().min(1),
    amount: z.number().int().positive(),
  }),
  async handler({ data: { from, to, amount } }, ctx) {
    if (from === to) throw new MillraceError('INVALID_INPUT', 'The accounts are the same.');
    const accounts = ctx.state<number>('accounts');
    const [source, target] = await Promise.all([accounts.get(from), accounts.get(to)]);
    if (source === undefined || target === undefined) {
      const missing = source === undefined ? from : to;
      throw new MillraceError('INVALID_INPUT', `There is no account ${missing}.`);
    }
    if (source < amount) {
      throw new MillraceError('INVALID_INPUT', `${from} has ${source}, less than ${amount}.`);
    }
    await accounts.set(from, source - amount);
    await accounts.set(to, target + amount);
    return { from: source - amount, to: target + amount };
  },
});
