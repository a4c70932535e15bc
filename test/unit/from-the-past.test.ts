/** A server that was cut off while it led a stream answers with the past for some seconds: what is made of its answers. */
import type { Msg } from 'nats';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { bucketKeys } from '../../src/bus/bucket-keys.ts';
import type { Bus } from '../../src/bus/connection.ts';
import { JetStreamApi } from '../../src/bus/jetstream-api.ts';
import { SubjectLog } from '../../src/bus/log-streams.ts';
import type { LogWriter } from '../../src/bus/log-writer.ts';
import type { StreamReader } from '../../src/bus/stream-reader.ts';
import { Cursors } from '../../src/delivery/cursors.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { closeWithChecksum, CRC_BYTES } from '../../src/core/state/whole.ts';

type Answer = object | Promise<object>;

/** Answers come in this order, whatever is asked. */
function busWith(answers: Answer[], bucket: object = {}): Bus {
  return {
    request: async (): Promise<Msg> => {
      const answer = await answers.shift();
      return { data: Buffer.from(JSON.stringify(answer)) } as unknown as Msg;
    },
    keyValue: async () => Promise.resolve(bucket),
  } as unknown as Bus;
}

const data = closeWithChecksum(Buffer.alloc(1 + CRC_BYTES)).toString('base64');
const message = (seq: number): object => ({ message: { subject: 's', seq, data } });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

it('an older last message than one that was seen is no answer', async () => {
  const api = new JetStreamApi(busWith([message(7), message(5), message(7), message(8)]));
  const log = new SubjectLog('s', 's', api, {} as StreamReader, {} as LogWriter);
  expect((await log.last())?.sequence).toBe(7);
  await expect(log.last()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect((await log.last())?.sequence).toBe(7);
  expect((await log.last())?.sequence).toBe(8);
});

it('a log whose last append is trimmed while it is looked for behind what others wrote is not empty', async () => {
  const junk = { message: { subject: 's', seq: 5, data: '' } };
  const api = new JetStreamApi(busWith([junk, message(7), message(7)]));
  const reader = { read: async () => Promise.resolve() } as unknown as StreamReader;
  const log = new SubjectLog('s', 's', api, reader, {} as LogWriter);
  await expect(log.last()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect((await log.last())?.sequence).toBe(7);
});

it('a stream without a leader is asked again, and who was elected meanwhile is not waited for longer', async () => {
  const api = new JetStreamApi(busWith([new Promise(() => {}), message(9)]));
  const asked = api.last('s', 's');
  await vi.advanceTimersByTimeAsync(600);
  expect((await asked)?.sequence).toBe(9);
  expect(vi.getTimerCount()).toBe(0);
});

const keysOf = (revision: number, ...keys: string[]): object => ({
  total: keys.length,
  state: {
    last_seq: revision,
    subjects: Object.fromEntries(keys.map((key) => [`$KV.millrace-deliveries.${key}`, 1])),
  },
});

it('keys of a bucket come in pages', async () => {
  const page = (key: string): object => ({ ...keysOf(4, key), total: 2 });
  const bus = busWith([page('a'), page('b')]);
  expect(await bucketKeys(bus, 'millrace-deliveries')).toEqual({ keys: ['a', 'b'], revision: 4 });
});

const ENTRY = { stream: 's', identity: 'i', subjects: {}, next: 1, open: [] };

/** What is stored under each key, with its revision. */
async function allWith(answers: Answer[], revisions: Record<string, number>): Promise<string[]> {
  const get = async (key: string): Promise<object> =>
    Promise.resolve({
      operation: 'PUT',
      revision: revisions[key],
      value: Buffer.from(JSON.stringify({ ...ENTRY, function: key })),
    });
  const cursors = await Cursors.open(busWith(answers, { get }), parseSettings());
  return (await cursors.all()).map((entry) => entry.function);
}

it('a function that began meanwhile is among all cursors', async () => {
  const answers = [keysOf(3, 'a'), keysOf(4, 'a', 'b'), keysOf(4, 'a', 'b'), keysOf(4, 'a', 'b')];
  expect(await allWith(answers, { a: 3, b: 4 })).toEqual(['a', 'b']);
});

it('a list of cursors that is older than one of them does not pass for all', async () => {
  // The cursor of b was made as number 4: whoever has number 5 of a must have it, too.
  const answers = [keysOf(3, 'a'), keysOf(3, 'a'), keysOf(5, 'a', 'b'), keysOf(5, 'a', 'b')];
  expect(await allWith(answers, { a: 5, b: 4 })).toEqual(['a', 'b']);
});
