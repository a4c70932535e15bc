import { afterEach, expect, it } from 'vitest';
import { writeControl, type OwnerBeat } from '../../src/bus/messages.ts';
import type { MillraceError } from '../../src/core/errors.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { subjectsOf } from '../../src/core/subjects.ts';
import { Cluster } from '../../src/state/cluster.ts';
import { FakeBus } from '../support/fake-bus.ts';

const settings = parseSettings({});
const subjects = subjectsOf(settings.namespace);
const foreign: MillraceError[] = [];
const bus = new FakeBus();
let cluster: Cluster;

function start(protocol: number): void {
  const self = { id: 'own', capacity: 1, partitions: 8, settled: 0, protocol, owned: () => [] };
  cluster = new Cluster(bus.asBus(), settings, self, {
    onOwner() {},
    onGone() {},
    onMembers() {},
    onForeign: (problem) => void foreign.push(problem),
  });
  cluster.host(true);
}
function says(id: string, protocol?: number): void {
  const beat: OwnerBeat = { id, capacity: 1, hosting: true, partitions: 8, owned: [], protocol };
  bus.deliver(subjects.stateBeat, writeControl(beat));
}
const hosts = (): string[] => cluster.hosts().map(({ id }) => id);

afterEach(() => {
  cluster.close();
  foreign.length = 0;
});

it('a worker works with those of the version before and after its own', () => {
  start(2);
  // From before protocols were said.
  says('first');
  says('same', 2);
  says('next', 3);
  expect(hosts()).toEqual(['first', 'same', 'next', 'own']);
  expect(foreign).toEqual([]);
});

it('a worker owns no partitions beside one that is too old for it, and says so once', () => {
  start(3);
  says('first');
  says('first');
  expect(hosts()).toEqual(['first']);
  expect(foreign.map(({ message, code }) => `${code}: ${message}`)).toEqual([
    'NEWER_VERSION: Protocol 1 of worker first and 3 of this one are too far apart: upgrade by way of the versions between. This one owns no partitions until it is gone.',
  ]);
  cluster.gone('first');
  expect(hosts()).toEqual(['own']);
});

it('a worker goes on beside one that is too new for it', () => {
  start(1);
  says('third', 3);
  expect(hosts()).toContain('own');
  expect(foreign).toHaveLength(1);
});
