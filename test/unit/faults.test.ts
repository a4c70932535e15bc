import { describe, expect, it } from 'vitest';
import { decodeEnvelopes, encodeEnvelopes, type Envelope } from '../../src/core/state/wire.ts';
import type { WorkerProcess } from '../../src/dev/worker-process.ts';
import { ClientProtocol, type Publication } from '../../src/testing/client-protocol.ts';
import { Faults, type FaultyWorker } from '../../src/testing/faults.ts';
import { DROP, PASS, type Link, type Verdict } from '../../src/testing/link.ts';

const nothing = async (): Promise<void> => {};
const killed: string[] = [];
const worker = (id: string): FaultyWorker => ({
  process: { id } as unknown as WorkerProcess,
  link: {} as unknown as Link,
});
const [one, two] = [worker('one'), worker('two')];
const faults = new Faults({
  namespace: 'mill',
  workers: () => [one, two],
  kill: async (id) => void killed.push(id),
  servers: { urls: [], kill: nothing, restart: nothing, stop: nothing },
});

const said = (what: string, ...envelopes: Envelope[]): Publication => ({
  subject: `mill.tx.${what}.other`,
  reply: '_INBOX.x',
  payload: Buffer.from(encodeEnvelopes(envelopes)),
  hasHeaders: false,
});
const vote = (tx: string): Envelope => ({
  partition: 1,
  message: { kind: 'vote', tx, from: 2, yes: true },
});
const prepare = (tx: string, home: number, key = 'accounts/ann'): Envelope => ({
  partition: 1,
  message: {
    kind: 'prepare',
    tx,
    coordinator: 'one',
    epoch: 1,
    grant: 1,
    home,
    participants: [],
    writers: [],
    writes: [[key, '1']],
    emits: [],
  },
});

function votesOf(verdict: Verdict): string[] {
  if (verdict.kind !== 'say') throw new Error(`it says ${verdict.kind}`);
  const [message] = [...new ClientProtocol().take(verdict.bytes)];
  const { payload = Buffer.alloc(0), reply } = message?.publication ?? {};
  expect(reply).toBe('_INBOX.x');
  return decodeEnvelopes(payload).envelopes.map(({ message: { tx } }) => tx);
}

describe('faults', () => {
  it('drop as many votes as they are told, of the worker that they are told, and nothing else', async () => {
    const dropped = faults.dropVote({ times: 3, worker: 'one' });
    expect(faults.judge(two, said('vote', vote('a')))).toBe(PASS);
    expect(faults.judge(one, said('prepare', prepare('a', 0)))).toBe(PASS);
    expect(faults.judge(one, said('vote', vote('a'), vote('b')))).toEqual(DROP);
    expect(votesOf(faults.judge(one, said('vote', vote('c'), vote('d'))))).toEqual(['d']);
    expect(faults.judge(one, said('vote', vote('e')))).toBe(PASS);
    await dropped;
    expect(faults.judge(one, said('vote', vote('f')))).toBe(PASS);
  });

  it('kill the coordinator of a transaction of several workers, and let nothing out after its prepares', async () => {
    const killing = faults.killCoordinator({ collection: 'accounts' });
    const append = { ...said('x'), subject: 'mill.log.one', hasHeaders: true };
    // Decided where it is prepared: nobody votes.
    expect(faults.judge(one, said('prepare', prepare('alone', 1)))).toBe(PASS);
    expect(faults.judge(one, said('prepare', prepare('other', 0, 'trips/1')))).toBe(PASS);
    expect(faults.judge(one, append)).toBe(PASS);
    expect(faults.judge(one, said('prepare', prepare('met', 0)))).toBe(PASS);
    expect(faults.judge(one, append)).toEqual(DROP);
    expect(faults.judge(one, said('vote', vote('met')))).toEqual(DROP);
    expect(faults.judge(one, said('prepare', prepare('met', 0)))).toBe(PASS);
    expect(faults.judge(two, append)).toBe(PASS);
    expect(await killing).toEqual({ worker: 'one', transaction: 'met' });
    expect(killed).toEqual(['one']);
  });

  it('delay appends, and nothing else', async () => {
    const over = faults.delayAppends(50, { forMs: 1, worker: 'two' });
    const append = { ...said('x'), subject: 'mill.log.two', hasHeaders: true };
    expect(faults.judge(two, append)).toEqual({ kind: 'later', ms: 50 });
    expect(faults.judge(two, said('vote', vote('a')))).toBe(PASS);
    expect(faults.judge(one, append)).toBe(PASS);
    await over;
    expect(faults.judge(two, append)).toBe(PASS);
  });
});
