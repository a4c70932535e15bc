/** Checked by `tsc -p tsconfig.json`, never run. */
import { expectTypeOf } from 'vitest';
import { z } from 'zod';
import { defineFunction } from '../../src/function/define.ts';
import type { Context, FunctionEvent } from '../../src/function/context.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import type { InputOf, OutputOf, PartOf } from '../../src/function/reference.ts';

declare const ctx: Context;

// Data is the input schema's output; callers pass its input.
const length = defineFunction({
  input: z.object({
    text: z.string().transform((text) => text.length),
    unit: z.string().default('m'),
  }),
  key: (event) => event.data.unit,
  async handler(event, context) {
    expectTypeOf(event).toEqualTypeOf<FunctionEvent<{ text: number; unit: string }>>();
    expectTypeOf(context).toEqualTypeOf<Context>();
    return { length: event.data.text };
  },
});
expectTypeOf<InputOf<typeof length>>().toEqualTypeOf<{ text: string; unit?: string | undefined }>();
expectTypeOf<OutputOf<typeof length>>().toEqualTypeOf<{ length: number }>();

// Without input, data is unknown; without output, the result is what the handler returns.
const plain = defineFunction({
  on: ['a', 'b'],
  handler: (event) => {
    expectTypeOf(event.data).toBeUnknown();
    return 'done' as const;
  },
});
expectTypeOf<InputOf<typeof plain>>().toBeUnknown();
expectTypeOf<OutputOf<typeof plain>>().toEqualTypeOf<'done'>();

const text = defineFunction({ handler: async () => ({ state: 'done' }) });
expectTypeOf<OutputOf<typeof text>>().toExtend<{ readonly state: string }>();

const silent = defineFunction({ async handler() {} });
expectTypeOf<OutputOf<typeof silent>>().toEqualTypeOf<void>();
const bare = defineFunction({ handler: () => {} });
expectTypeOf<OutputOf<typeof bare>>().toEqualTypeOf<void>();

// The handler returns what the output schema takes; callers get what it gives.
const parsed = defineFunction({
  output: z.object({ status: z.enum(['ok', 'late']), count: z.string().transform(Number) }),
  handler: async () => ({ status: 'ok', count: '7' }),
});
expectTypeOf<OutputOf<typeof parsed>>().toEqualTypeOf<{ status: 'ok' | 'late'; count: number }>();

defineFunction({
  output: z.object({ status: z.literal('ok') }),
  // Literals need no `as const`, in a method with its event as well.
  handler(event) {
    return event.attempt > 1 ? { status: 'ok' } : Promise.resolve({ status: 'ok' as const });
  },
});

// Lists, dates and optional fields may be returned as they are, also from a variable.
const Report = z.object({
  lines: z.array(z.object({ id: z.number(), tags: z.array(z.string()) })),
  at: z.date(),
  kind: z.literal(['a', 'b']),
  note: z.string().optional(),
  any: z.unknown(),
});
defineFunction({
  input: Report,
  output: Report,
  async handler({ data }) {
    const { lines, at } = data;
    if (lines.length > 1) return data;
    if (lines.length > 2) return { lines: [{ id: 1, tags: ['x', 'y'] }], at, kind: 'a', any: [1] };
    return {
      lines: lines.map(({ id, tags }) => ({ id, tags })),
      at,
      kind: 'b',
      any: null,
      note: 'n',
    };
  },
});

defineFunction({
  output: z.number(),
  // @ts-expect-error a text is not what the output schema takes
  handler: async () => 'seven',
});

defineFunction({
  input: z.object({ from: z.string(), amount: z.number() }),
  // @ts-expect-error a key is a string
  key: (event) => event.data.amount,
  handler: () => 1,
});

// @ts-expect-error a handler is needed
defineFunction({ on: 'a' });
// @ts-expect-error parallel is not an option
defineFunction({ parallel: 2, handler: () => 1 });
defineFunction({
  on: 'a',
  input: z.object({ tenant: z.string() }),
  concurrency: { limit: 2, key: ({ data }) => data.tenant },
  // @ts-expect-error a key is a string
  rateLimit: { limit: 1, periodMs: 1, key: ({ data }) => data },
  handler: ({ batch }) => batch?.map(({ data }) => data.tenant),
});
// @ts-expect-error not a way of delivery
defineFunction({ delivery: 'twice', handler: () => 1 });

// Calls are typed by the definition.
expectTypeOf(ctx.invoke(length, { text: 'abc' })).resolves.toEqualTypeOf<{ length: number }>();
expectTypeOf(
  ctx.invoke(parsed, undefined, { timeoutMs: 10, retry: false }),
).resolves.toEqualTypeOf<{
  status: 'ok' | 'late';
  count: number;
}>();
// @ts-expect-error what is passed is the schema's input, a text
void ctx.invoke(length, { text: 3 });
// @ts-expect-error neither a function nor a name
void ctx.invoke(7, {});
expectTypeOf(ctx.invoke('length', { text: 'abc' })).resolves.toBeUnknown();
expectTypeOf(ctx.invoke<number>('length', 1)).resolves.toBeNumber();
expectTypeOf(ctx.emit('a.b', { any: 'thing' }, { id: '1' })).resolves.toBeVoid();

// Every function is a FunctionDefinition, whatever its types.
expectTypeOf(length).toExtend<FunctionDefinition>();
expectTypeOf([length, plain, parsed]).toExtend<readonly FunctionDefinition[]>();

// An async generator answers in parts: invoke gives all of them, stream one after the other.
const inParts = defineFunction({
  input: z.object({ count: z.number() }),
  output: z.object({ n: z.string().transform(Number) }),
  async *handler({ data }) {
    for (let at = 0; at < data.count; at += 1) yield { n: String(at) };
  },
});
expectTypeOf<OutputOf<typeof inParts>>().toEqualTypeOf<{ n: number }[]>();
expectTypeOf<PartOf<typeof inParts>>().toEqualTypeOf<{ n: number }>();
const readable = defineFunction({ handler: async () => new ReadableStream<string>() });
expectTypeOf<OutputOf<typeof readable>>().toEqualTypeOf<string[]>();
expectTypeOf<PartOf<typeof parsed>>().toEqualTypeOf<{ status: 'ok' | 'late'; count: number }>();
