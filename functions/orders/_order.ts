import { z } from 'zod';

export const orderSchema = z.object({ order: z.string(), amount: z.number().positive() });

export interface Order {
  amount: number;
  status: 'placed' | 'paid' | 'shipped';
}
