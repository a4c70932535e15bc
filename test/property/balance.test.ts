/** How calls are spread: distributions of many calls in simulated time, by each strategy, over workers of different speed. */
import { describe, expect, it } from 'vitest';
import { Balancer, type CallEnd } from '../../src/core/balance/balancer.ts';
import type { Track } from '../../src/core/balance/track.ts';
import { Directory, type WorkerRecord } from '../../src/core/directory.ts';
import { Random } from '../support/random.ts';

const BEAT_MS = 1_000;

interface Server {
  id: string;
  /** Of one run. */
  serviceMs: number;
  capacity?: number;
  /** Runs at once; others wait. */
  slots?: number;
  fails?: (nowMs: number) => boolean;
}

interface Call {
  server: Server;
  caller: Balancer;
  track: Track | undefined;
  beganMs: number;
}

/** Callers, servers and a clock: calls come at a steady rate, from each caller in turn. */
class Cluster {
  readonly counts = new Map<string, number>();
  readonly latencies: number[] = [];
  nowMs = 0;
  readonly #directory = new Directory();
  readonly #callers: Balancer[];
  readonly #servers: Map<string, Server>;
  readonly #running = new Map<string, number>();
  readonly #queues = new Map<string, Call[]>();
  readonly #events: { atMs: number; run: () => void }[] = [];

  constructor(balance: string, servers: Server[], callers = 3, seed = 1) {
    const random = new Random(seed);
    this.#servers = new Map(servers.map((server) => [server.id, server]));
    for (const { id, capacity = 100 } of servers) {
      this.#directory.announced(recordOf(id, balance, capacity), 0);
    }
    this.#callers = Array.from(
      { length: callers },
      () => new Balancer(this.#directory, () => random.next()),
    );
  }

  get caller(): Balancer {
    return this.#callers[0] as Balancer;
  }

  run(forMs: number, callsPerSecond: number): void {
    const untilMs = this.nowMs + forMs;
    const stepMs = 1_000 / callsPerSecond;
    let index = 0;
    const call = (): void => {
      this.#call(this.#callers[index % this.#callers.length] as Balancer);
      index += 1;
      if (this.nowMs + stepMs < untilMs) this.#at(stepMs, call);
    };
    this.#at(0, call);
    const beat = (): void => {
      this.#beat();
      if (this.nowMs + BEAT_MS < untilMs) this.#at(BEAT_MS, beat);
    };
    this.#at(BEAT_MS, beat);
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = untilMs;
  }

  reset(): void {
    this.counts.clear();
    this.latencies.length = 0;
  }

  share(id: string): number {
    const total = [...this.counts.values()].reduce((sum, count) => sum + count, 0);
    return (this.counts.get(id) ?? 0) / total;
  }

  p99(): number {
    const sorted = this.latencies.toSorted((left, right) => left - right);
    return sorted[Math.floor(sorted.length * 0.99)] as number;
  }

  #call(caller: Balancer): void {
    const id = caller.pick('f', this.nowMs) as string;
    const server = this.#servers.get(id) as Server;
    this.counts.set(id, (this.counts.get(id) ?? 0) + 1);
    const call = { server, caller, track: caller.begun('f', id, this.nowMs), beganMs: this.nowMs };
    if ((this.#running.get(id) ?? 0) < (server.slots ?? Infinity)) this.#start(call);
    else this.#queues.set(id, [...(this.#queues.get(id) ?? []), call]);
  }

  #start(call: Call): void {
    const { id, serviceMs } = call.server;
    this.#running.set(id, (this.#running.get(id) ?? 0) + 1);
    this.#at(serviceMs, () => {
      this.#running.set(id, (this.#running.get(id) ?? 0) - 1);
      this.#end(call);
      const [next, ...rest] = this.#queues.get(id) ?? [];
      this.#queues.set(id, rest);
      if (next !== undefined) this.#start(next);
    });
  }

  #end({ server, caller, track, beganMs }: Call): void {
    const latencyMs = this.nowMs - beganMs;
    const end: CallEnd = server.fails?.(this.nowMs) === true ? 'failed' : 'succeeded';
    this.latencies.push(latencyMs);
    if (track !== undefined || end === 'failed') {
      caller.ended('f', server.id, track, end, latencyMs, this.nowMs);
    }
  }

  #beat(): void {
    for (const { id, serviceMs } of this.#servers.values()) {
      const running = this.#running.get(id) ?? 0;
      const waiting = this.#queues.get(id)?.length ?? 0;
      for (const caller of this.#callers)
        caller.heard(id, [['f', { running, waiting, serviceMs }]]);
    }
  }

  #at(inMs: number, run: () => void): void {
    const atMs = this.nowMs + inMs;
    let index = this.#events.length;
    while (index > 0 && (this.#events[index - 1] as { atMs: number }).atMs > atMs) index -= 1;
    this.#events.splice(index, 0, { atMs, run });
  }

  #next(): { atMs: number; run: () => void } | undefined {
    return this.#events.shift();
  }
}

const recordOf = (id: string, balance: string, capacity = 100): WorkerRecord => ({
  id,
  connectionEpoch: 1,
  state: 'running',
  functions: ['f'],
  revision: 1,
  balances: balance === 'random' ? [] : [['f', balance]],
  capacity,
});
const equal = (count: number, serviceMs = 10): Server[] =>
  Array.from({ length: count }, (_, index) => ({ id: `w${index}`, serviceMs }));

describe('round-robin', () => {
  it('gives equal workers as much, within 5 %', () => {
    const cluster = new Cluster('round-robin', equal(5));
    cluster.run(10_000, 1_000);
    for (const { id } of equal(5)) expect(Math.abs(cluster.share(id) * 5 - 1)).toBeLessThan(0.05);
  });
});

describe('weighted', () => {
  it.each([[0.2], [20], [1_000]])(
    'gives a worker that is twice as fast 1.8 to 2.2 times as much, at %d calls a second and worker',
    (rate) => {
      const servers = [...equal(3, 10), { id: 'fast', serviceMs: 5 }];
      const cluster = new Cluster('weighted', servers);
      cluster.run(5_000, rate * 4);
      cluster.reset();
      cluster.run(rate < 1 ? 2_000_000 : 20_000, rate * 4);
      const ratio = cluster.share('fast') / cluster.share('w1');
      expect(ratio).toBeGreaterThan(1.8);
      expect(ratio).toBeLessThan(2.2);
    },
  );

  it('gives a worker with twice the capacity twice as much, also before anybody has said how fast it is', () => {
    const servers = [...equal(2), { id: 'large', serviceMs: 10, capacity: 200 }];
    const cluster = new Cluster('weighted', servers);
    cluster.run(900, 1_000);
    expect(cluster.share('large') / cluster.share('w0')).toBeCloseTo(2, 1);
    cluster.run(5_000, 1_000);
    expect(cluster.share('large') / cluster.share('w0')).toBeCloseTo(2, 1);
  });

  it('follows a worker that becomes slower, and comes back', () => {
    const [changing, ...others] = equal(3, 10) as [Server, ...Server[]];
    const cluster = new Cluster('weighted', [changing, ...others]);
    cluster.run(3_000, 1_000);
    changing.serviceMs = 100;
    cluster.run(3_000, 1_000);
    cluster.reset();
    cluster.run(3_000, 1_000);
    expect(cluster.share(changing.id)).toBeLessThan(0.1);
    changing.serviceMs = 10;
    cluster.run(3_000, 1_000);
    cluster.reset();
    cluster.run(3_000, 1_000);
    expect(cluster.share(changing.id)).toBeGreaterThan(0.3);
  });
});

describe('least-loaded', () => {
  it.each([
    ['where there is room', 400],
    ['where the slow one would be overloaded at random', 900],
  ])(
    'has a p99 of at most a quarter of random with one worker 10 times slower, %s',
    (_, perSecond) => {
      const p99Of = (balance: string): number => {
        const servers = [
          ...equal(3, 10).map((server) => ({ ...server, slots: 16 })),
          { id: 'slow', serviceMs: 100, slots: 16 },
        ];
        const cluster = new Cluster(balance, servers);
        cluster.run(2_000, perSecond);
        cluster.reset();
        cluster.run(20_000, perSecond);
        return cluster.p99();
      };
      expect(p99Of('least-loaded')).toBeLessThanOrEqual(p99Of('random') / 4);
    },
  );

  it('tries a slow worker again after a while', () => {
    const servers = [...equal(2, 10), { id: 'slow', serviceMs: 1_000 }];
    const cluster = new Cluster('least-loaded', servers, 1);
    cluster.run(10_000, 100);
    const slow = servers[2] as Server;
    slow.serviceMs = 10;
    cluster.run(100_000, 100);
    cluster.reset();
    cluster.run(20_000, 100);
    expect(cluster.share('slow')).toBeGreaterThan(0.2);
  });
});

describe.each(['random', 'round-robin', 'weighted', 'least-loaded'])(
  '%s: a worker on which everything fails',
  (balance) => {
    it('is tried less, and comes back by itself', () => {
      let broken = true;
      const servers = [...equal(3), { id: 'bad', serviceMs: 10, fails: () => broken }];
      const cluster = new Cluster(balance, servers);
      cluster.run(2_000, 500);
      cluster.reset();
      cluster.run(30_000, 500);
      expect(cluster.share('bad')).toBeLessThan(0.02);
      broken = false;
      cluster.run(40_000, 500);
      cluster.reset();
      cluster.run(10_000, 500);
      expect(cluster.share('bad')).toBeGreaterThan(0.2);
    });

    it('is left in where it fails on the others, too', () => {
      const servers = equal(4).map((server) => ({ ...server, fails: () => true }));
      const cluster = new Cluster(balance, servers);
      cluster.run(20_000, 500);
      for (const { id } of servers) expect(cluster.share(id)).toBeGreaterThan(0.2);
    });
  },
);

describe('a worker that is left out', () => {
  it('stays so though calls that must go there go on', () => {
    const directory = new Directory();
    for (const id of ['a', 'b', 'c']) directory.announced(recordOf(id, 'round-robin'), 0);
    const balancer = new Balancer(directory, () => 0.5);
    const call = (id: string, nowMs: number, end: CallEnd): void => {
      balancer.ended('f', id, balancer.begun('f', id, nowMs), end, 1, nowMs);
    };
    for (let times = 0; times < 20; times += 1) {
      call('b', 0, 'succeeded');
      call('c', 0, 'succeeded');
      call('a', 0, 'failed');
    }
    // Tried in vain a few times: out for longer each time.
    for (const nowMs of [1_001, 3_002]) call('a', nowMs, 'failed');
    // By its key, say: out for four seconds all the same.
    balancer.begun('f', 'a', 3_100);
    const picked = (nowMs: number): Set<string | undefined> =>
      new Set(Array.from({ length: 10 }, () => balancer.pick('f', nowMs)));
    expect(picked(6_900)).toEqual(new Set(['b', 'c']));
    expect(picked(7_100)).toContain('a');
  });
});

describe('a worker that is full, draining or silent', () => {
  const pickedOf = (directory: Directory): Set<string | undefined> => {
    const random = new Random(1);
    const balancer = new Balancer(directory, () => random.next());
    return new Set(Array.from({ length: 100 }, () => balancer.pick('f', 0)));
  };
  const beat = { connectionEpoch: 1, state: 'running', revision: 1 } as const;

  it.each(['random', 'round-robin', 'weighted', 'least-loaded'])('gets nothing: %s', (balance) => {
    const directory = new Directory();
    for (const id of ['a', 'b', 'c', 'd']) directory.announced(recordOf(id, balance), 0);
    directory.beat({ ...beat, id: 'a', full: ['f'] }, 1);
    directory.beat({ ...beat, id: 'b', state: 'draining' }, 1);
    directory.beat({ ...beat, id: 'd' }, 5_000);
    directory.beat({ ...beat, id: 'a', full: ['f'] }, 5_000);
    directory.silence(5_000, 3_000);
    expect(pickedOf(directory)).toEqual(new Set(['d']));
    // Where there is no other: a full one before a silent one.
    directory.remove('d');
    expect(pickedOf(directory)).toEqual(new Set(['a']));
    directory.remove('a');
    expect(pickedOf(directory)).toEqual(new Set(['c']));
  });
});

describe("a user's own strategy", () => {
  it('is asked where the caller has it, and calls go at random where it has not', () => {
    const directory = new Directory();
    for (const id of ['a', 'b']) directory.announced(recordOf(id, 'always-last'), 0);
    const random = new Random(1);
    const picked = (balancer: Balancer): Set<string | undefined> =>
      new Set(Array.from({ length: 100 }, () => balancer.pick('f', 0)));
    const balancer = new Balancer(directory, () => random.next());
    expect(picked(balancer)).toEqual(new Set(['a', 'b']));
    balancer.register('always-last', () => ({ pick: (candidates) => candidates.at(-1) as never }));
    expect(picked(balancer)).toEqual(new Set(['b']));
  });
});
