/** Takeovers that meet a journal which was emptied: SPEC.md, "Snapshots and trimming". */
import { describe, expect, it } from 'vitest';
import { encodeAppend } from '../../src/core/state/append.ts';
import { encodeClaim, type Claim, type SnapshotPointer } from '../../src/core/state/claim.ts';
import { emptyJournal, Journal, sealJournal } from '../../src/core/state/journal.ts';
import type { LogPort } from '../../src/core/state/log-port.ts';
import { PartitionOwner } from '../../src/core/state/owner.ts';
import { writeSnapshot } from '../../src/core/state/snapshot.ts';
import { encodeRecords } from '../../src/core/state/records.ts';

const PARTITION = 3;
const LIMITS = {
  maxSessions: 10,
  maxPartitionBytes: 1_000_000,
  voteTimeoutMs: 100,
  queryAfterMs: 100,
  keepOutcomeMs: 1_000,
  snapshotAfterBytes: 1_000_000,
  snapshotChunkBytes: 1_000,
  moveChunkBytes: 1_000,
};
const FIRST = { index: 0, sequence: 0 };

/** All subjects of a stream, in memory. */
class Stream {
  readonly snapshots = new Map<number, Uint8Array[]>();
  /** Called when somebody begins to read a subject. */
  onRead: (subject: string) => Promise<void> = async () => {};
  readonly #subjects = new Map<string, { sequence: number; bytes: Uint8Array }[]>();
  #sequence = 0;

  log(subject: string): LogPort {
    const messages = this.#subjects.get(subject) ?? [];
    this.#subjects.set(subject, messages);
    return {
      last: async () => messages.at(-1),
      lastSequence: async () => messages.at(-1)?.sequence ?? 0,
      read: async (from, to, onAppend) => {
        await this.onRead(subject);
        for (const { sequence, bytes } of messages) {
          if (sequence >= from && sequence <= to) onAppend(sequence, bytes);
        }
      },
      append: async (bytes, expected) => {
        if ((messages.at(-1)?.sequence ?? 0) !== expected) throw new Error('refused');
        this.#sequence += 1;
        messages.push({ sequence: this.#sequence, bytes });
        return this.#sequence;
      },
      trim: async (before) => {
        while (messages.length > 1 && (messages[0]?.sequence ?? before) < before) messages.shift();
      },
    };
  }

  async claim(claim: Omit<Claim, 'nonce'>): Promise<void> {
    const claims = this.log('claims');
    await claims.append(encodeClaim({ ...claim, nonce: 1n }), await claims.lastSequence());
  }

  async decided(journal: string, index: number, epoch: number, value: string): Promise<void> {
    const log = this.log(journal);
    const records = encodeRecords([
      {
        kind: 'decide',
        tx: `w-${index}`,
        coordinator: 'w',
        writers: [],
        writes: [['list/a', value, index]],
        emits: [],
      },
      { kind: 'end', tx: `w-${index}` },
    ]);
    const sections = [{ partition: PARTITION, epoch, records }];
    const bytes = encodeAppend({ kind: 'records', nonce: 2n, index, sections });
    await log.append(bytes, await log.lastSequence());
  }

  owner(id: string): PartitionOwner {
    const ports = { claims: () => this.log('claims'), now: () => 0, soon: () => {} };
    const journal = new Journal(
      id,
      3n,
      { ...ports, log: this.log(id) },
      {
        maxAppendBytes: 1_000,
        replicas: 1,
      },
    );
    return new PartitionOwner(
      PARTITION,
      4n,
      journal,
      {
        claims: this.log('claims'),
        journal: (name) => this.log(name),
        seal: async (name) => sealJournal(this.log(name), 5n, 3),
        forsaken() {},
        snapshots: {
          write: async () => {
            throw new Error('none is due');
          },
          read: async ({ firstSequence }, onChunk) => {
            for (const chunk of this.snapshots.get(firstSequence) ?? []) onChunk(chunk);
          },
          removeBefore: async () => {},
        },
        layout: () => ({ generation: 0, from: 1, to: 1 }),
        rings: () => () => PARTITION,
        now: () => 0,
        toPartition() {},
        toCoordinator() {},
        publish() {},
        askToRelease: async () => {},
        ended() {},
      },
      LIMITS,
    );
  }

  /** Of what an owner has that has just taken over. */
  async snapshot(owner: PartitionOwner): Promise<SnapshotPointer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of writeSnapshot(owner.machine, 1_000)) chunks.push(chunk);
    this.snapshots.set(77, chunks);
    return { firstSequence: 77, lastSequence: 77, chunks: chunks.length };
  }

  async empty(journal: string): Promise<void> {
    await sealJournal(this.log(journal), 6n, 3);
    await emptyJournal(journal, 7n, this.log(journal), [this.log('claims')]);
  }
}

describe('a takeover', () => {
  it('takes a segment for empty whose journal was emptied before the claim that names it', async () => {
    const stream = new Stream();
    await stream.decided('one', 1, 9, '[1]');
    await stream.empty('one');
    // Its worker does not know yet.
    await stream.claim({ epoch: 1, segments: [{ journal: 'one', epoch: 1, from: FIRST }] });
    const owner = stream.owner('two');
    await owner.take();
    expect([owner.state, owner.epoch, owner.machine.items.size]).toEqual(['serving', 2, 0]);
  });

  it('loses nothing of a journal that is emptied while it reads', async () => {
    const stream = new Stream();
    await stream.claim({ epoch: 1, segments: [{ journal: 'one', epoch: 1, from: FIRST }] });
    await stream.decided('one', 1, 1, '[1]');
    await stream.decided('one', 2, 1, '[1,2]');
    // What another owner makes of it meanwhile: a snapshot, after which nobody needs the journal.
    const before = stream.owner('three');
    await before.take();
    const snapshot = await stream.snapshot(before);
    let disturbed = false;
    stream.onRead = async (subject) => {
      if (disturbed || subject !== 'one') return;
      disturbed = true;
      const segment = { journal: 'three', epoch: 2, from: FIRST };
      await stream.claim({ epoch: 2, snapshot, segments: [segment] });
      await stream.empty('one');
    };
    const owner = stream.owner('two');
    await owner.take();
    expect(disturbed).toBe(true);
    expect(owner.machine.items.get('list/a')?.value).toBe('[1,2]');
  });

  it('of a journal with a gap that was not emptied does not come about', async () => {
    const stream = new Stream();
    await stream.claim({ epoch: 1, segments: [{ journal: 'one', epoch: 1, from: FIRST }] });
    await stream.decided('one', 1, 1, '[1]');
    await stream.decided('one', 2, 1, '[1,2]');
    await stream.log('one').trim(3);
    await expect(stream.owner('two').take()).rejects.toThrow('an append of the log is missing');
  });
});
