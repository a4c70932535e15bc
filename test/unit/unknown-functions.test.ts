import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Caller } from '../../src/bus/caller.ts';
import { writeControl } from '../../src/bus/messages.ts';
import { MillraceError } from '../../src/core/errors.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { UnknownFunctions } from '../../src/worker/unknown-functions.ts';
import { FakeBus } from '../support/fake-bus.ts';

let bus: FakeBus;
let caller: Caller;
let responder: UnknownFunctions;

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'],
  });
  bus = new FakeBus();
  const settings = parseSettings();
  caller = new Caller(bus.asBus(), settings);
  responder = new UnknownFunctions(bus.asBus(), settings, caller, () => false);
  const worker = { id: 'a', connectionEpoch: 1, state: 'running', revision: 1, functions: ['f'] };
  bus.deliver('millrace.members.announce', writeControl(worker));
});
afterEach(async () => {
  await responder.drain();
  caller.close();
  vi.useRealTimers();
});

/** What a plain request is told within a second, after a time in which the worker sent no beat. */
async function told(silentMs: number, name = 'f'): Promise<string | undefined> {
  await vi.advanceTimersByTimeAsync(silentMs);
  bus.deliver(`millrace.fn.${name}`, Buffer.from('1'), undefined, 'answer.here');
  await vi.advanceTimersByTimeAsync(1_000);
  const [answer] = bus.take('answer.here');
  if (answer === undefined) return undefined;
  return (JSON.parse(Buffer.from(answer.data).toString()) as { error: { code: string } }).error
    .code;
}

it('a request of a function whose worker computes is left to that worker, however long it is silent', async () => {
  bus.onRequest = () => Promise.reject(new MillraceError('TIMEOUT', 'no answer'));
  expect(await told(60_000)).toBeUndefined();
});

it('a request of a function whose worker is gone is UNAVAILABLE', async () => {
  expect(await told(0)).toBe('UNAVAILABLE');
  expect(await told(0, 'g')).toBe('UNKNOWN_FUNCTION');
});

it('a worker is not gone because the own connection breaks while it is asked', async () => {
  bus.onRequest = () => Promise.reject(new MillraceError('UNAVAILABLE', 'connection broke'));
  expect(await told(0)).toBeUndefined();
  expect(caller.members.directory.has('a')).toBe(true);
});
