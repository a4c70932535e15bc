/** What a worker keeps of an invocation while it runs, and what it does not make before somebody asks. */
import { describe, expect, it } from 'vitest';
import { defineFunction } from 'millrace';
import { ContentType } from '../../src/core/payload.ts';
import {
  Invocation,
  InvocationContext,
  type Incoming,
  type InvocationHost,
} from '../../src/worker/invocation.ts';
import { LiveInvocations } from '../../src/worker/live.ts';
import type { FunctionRunner } from '../../src/worker/runner.ts';

const anInvocation = (): Invocation =>
  new Invocation(
    {
      caller: '',
      subject: 's',
      type: ContentType.json,
      body: '1',
      headers: {},
      eventId: 'e',
      attempt: 1,
      repeats: 'never',
      timeoutMs: undefined,
      answer: () => {},
      fail: () => {},
    } satisfies Incoming,
    0,
  );
const runner = {} as FunctionRunner;

describe('live invocations', () => {
  it('are those that were added and not deleted, in whatever order they end', () => {
    const live = new LiveInvocations();
    const all = Array.from({ length: 5 }, anInvocation);
    for (const each of all) live.add(each, runner);
    const [first, second, third, fourth, fifth] = all as [
      Invocation,
      Invocation,
      Invocation,
      Invocation,
      Invocation,
    ];
    for (const each of [second, fifth, second]) live.delete(each);
    const left = [...live].map(([invocation]) => invocation);
    expect([live.size, new Set(left)]).toEqual([3, new Set([first, third, fourth])]);
    for (const each of [fourth, first, third]) live.delete(each);
    expect([live.size, [...live]]).toEqual([0, []]);
  });

  it('that end while others are looked at are not looked at any more, and none is left out', () => {
    const live = new LiveInvocations();
    const all = Array.from({ length: 4 }, anInvocation);
    for (const each of all) live.add(each, runner);
    const seen: Invocation[] = [];
    for (const [invocation] of live) {
      seen.push(invocation);
      live.delete(invocation);
      // The second one goes with the first.
      if (all[1] !== undefined) live.delete(all[1]);
      live.add(anInvocation(), runner);
    }
    expect(seen).toEqual([all[0], all[2], all[3]]);
  });
});

describe('the context of a run', () => {
  const contextOf = (run: Invocation): InvocationContext => {
    const host = { workerId: 'w', invoke: async () => 'answer' } as unknown as InvocationHost;
    const definition = defineFunction({ name: 'f', handler: () => {} });
    const loaded = { definition, name: 'f', file: 'f.ts', version: 'v', subjects: [] };
    return new InvocationContext(run, loaded, host, () => {
      throw new Error('not here');
    });
  };

  it('has no function in it before it is asked for one', () => {
    expect(Object.keys(contextOf(anInvocation()))).toEqual(['invocation']);
  });

  it('can be taken apart', async () => {
    const run = anInvocation();
    const { invoke, emit, state } = contextOf(run);
    expect(await invoke('g')).toBe('answer');
    run.settled = true;
    await expect(invoke('g')).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(emit('s')).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(() => state('c')).toThrow(/state was called after f had ended/);
  });

  it('is over when its run begins again', async () => {
    const run = anInvocation();
    const before = contextOf(run);
    run.beginAgain();
    await expect(before.invoke('g')).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await contextOf(run).invoke('g')).toBe('answer');
  });
});
