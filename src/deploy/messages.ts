/** What is said between who deploys and the workers: JSON, one schema each. */
import { z } from 'zod';
import { MAX_DEPLOYED_FUNCTIONS } from './records.ts';

export const prepareSchema = z.object({
  /** Function and version. */
  load: z.array(z.tuple([z.string().max(64), z.string().max(64)])).max(2 * MAX_DEPLOYED_FUNCTIONS),
});
export type Prepare = z.infer<typeof prepareSchema>;

export const switchSchema = z.object({ generation: z.number().int().nonnegative() });

/** A worker says first that it has heard, then how it went. */
export const workerWordSchema = z.object({
  worker: z.string().max(64),
  state: z.enum(['heard', 'ready', 'failed']),
  why: z.string().max(2_000).optional(),
  /** Functions for which it keeps to its own folder. */
  local: z.array(z.string().max(64)).optional(),
});
export type WorkerWord = z.infer<typeof workerWordSchema>;
