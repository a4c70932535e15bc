/** What callers from outside need to know of a function: asked with `inspect.catalog`. */
import { z } from 'zod';

const jsonSchema = z.record(z.string(), z.unknown());

export const catalogEntrySchema = z.object({
  name: z.string().max(64),
  version: z.string(),
  description: z.string().optional(),
  on: z.array(z.string()),
  delivery: z.enum(['durable', 'ephemeral']),
  timeoutMs: z.number(),
  /** Its handler is an async generator: it answers in parts. Others may do so, too. */
  inParts: z.boolean().optional(),
  http: z
    .object({
      method: z.string(),
      path: z.string(),
      webhook: z
        .object({ provider: z.string(), secret: z.string(), header: z.string().optional() })
        .optional(),
    })
    .optional(),
  /** JSON Schema, of those whose library can give it. */
  input: jsonSchema.optional(),
  output: jsonSchema.optional(),
});
export type CatalogEntry = z.infer<typeof catalogEntrySchema>;

export const catalogSchema = z.object({ functions: z.array(catalogEntrySchema) });
