/** Who has been silent for too long owns nothing any more; while the broker is away everybody is silent. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeControl, type OwnerBeat } from '../../src/bus/messages.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
import { Cluster } from '../../src/state/cluster.ts';
import { FakeBus } from '../support/fake-bus.ts';

const settings = parseSettings({});
const { ownerMissedMs, ownerBeatMs } = settings;

let bus: FakeBus;
let cluster: Cluster;
let gone: string[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  bus = new FakeBus();
  gone = [];
  const self = { id: 'own', capacity: 1, partitions: 8, settled: 0, owned: () => [] };
  cluster = new Cluster(bus.asBus(), settings, self, {
    onOwner() {},
    onGone: (id) => void gone.push(id),
    onMembers() {},
    onForeign() {},
  });
});
afterEach(() => {
  cluster.close();
  vi.useRealTimers();
});

function says(id: string): void {
  const beat: OwnerBeat = { id, capacity: 1, hosting: true, partitions: 8, owned: [] };
  bus.deliver(subjectsOf(settings.namespace).stateBeat, writeControl(beat));
}

it('one that is silent is gone', () => {
  says('other');
  vi.advanceTimersByTime(ownerMissedMs);
  expect(gone).toEqual([]);
  vi.advanceTimersByTime(ownerBeatMs);
  expect(gone).toEqual(['other']);
});

it('after the broker was away all have the same time to be heard again, and who is not is gone', () => {
  says('dead');
  says('slow');
  bus.up = false;
  vi.advanceTimersByTime(10 * ownerMissedMs);
  bus.up = true;
  bus.epoch += 1;
  vi.advanceTimersByTime(ownerMissedMs);
  expect(gone).toEqual([]);
  says('slow');
  vi.advanceTimersByTime(2 * ownerBeatMs);
  expect(gone).toEqual(['dead']);
});
