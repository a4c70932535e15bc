/** What a run is made of: drawn from its seed, and then made smaller by shrink.ts. Numbers only, so that it can be printed. */
import { Random } from '../support/random.ts';

export interface Plan {
  seed: number;
  partitions: number;
  nodes: number;
  clients: number;
  operations: number;
  keys: number;
  /** The share of accesses that go to the first two keys. */
  hot: number;
  readOnly: number;
  /** Probabilities for each message. */
  dropped: number;
  repeated: number;
  /** A message that comes after up to ten seconds. */
  veryLate: number;
  /** A message that goes to a worker by chance instead of the owner. */
  misled: number;
  /** Its receiver crashes shortly after it. */
  fatal: number;
  /** For each worker and takeover: it hears late of it. */
  unheard: number;
  /** For each takeover: the present owner is not asked to let go. */
  unasked: number;
  delayMs: number;
  /** A request to the store that does not arrive, an answer that doesn't, a read that takes long. */
  lostRequest: number;
  lostAnswer: number;
  slowRead: number;
  storeDelayMs: number;
  /** Somebody else writes into one of the logs, with each append. */
  foreign: number;
  /** At most so many crashes, pauses and moves, one in `accidentEveryMs`. */
  accidents: number;
  accidentEveryMs: number;
  /** Which share of them only moves a partition. */
  moves: number;
  /** How often at most the number of partitions changes, one time in `changeEveryMs`. */
  changes: number;
  changeEveryMs: number;
}

type Disturbance = Omit<
  Plan,
  | 'seed'
  | 'partitions'
  | 'nodes'
  | 'clients'
  | 'operations'
  | 'keys'
  | 'hot'
  | 'readOnly'
  | 'changes'
  | 'changeEveryMs'
>;

export const CALM: Disturbance = {
  dropped: 0,
  repeated: 0,
  veryLate: 0,
  misled: 0,
  fatal: 0,
  unheard: 0,
  unasked: 0,
  delayMs: 3,
  lostRequest: 0,
  lostAnswer: 0,
  slowRead: 0,
  storeDelayMs: 5,
  foreign: 0,
  accidents: 0,
  accidentEveryMs: 400,
  moves: 0.5,
};

/** In one run of so many others write into the logs, too. */
const STRANGERS = 5;

export function planOf(seed: number): Plan {
  const random = new Random(seed ^ 0x5bd1e995);
  const size = {
    seed,
    partitions: 2 + random.below(4),
    nodes: 2 + random.below(3),
    clients: 2 + random.below(6),
    operations: 60,
    keys: 8,
    hot: 0.5,
    readOnly: 0.3,
    changes: random.pick([0, 3, 30]),
    changeEveryMs: random.pick([20, 100, 500]),
  };
  const kind = random.next();
  if (kind < 0.15) return { ...size, ...CALM };
  const foreign = seed % STRANGERS === 0 ? 0.03 : 0;
  if (kind < 0.45) return { ...size, ...handovers(random), foreign };
  if (kind < 0.7) return { ...size, ...crashes(random), foreign };
  return { ...size, ...anything(random), foreign };
}

/** The network and the disks are well, but owners change all the time, unheard of: former owners are asked a lot. */
function handovers(random: Random): Partial<Plan> & Disturbance {
  return {
    ...CALM,
    misled: random.pick([0, 0.1]),
    unheard: 0.5,
    unasked: 1,
    slowRead: random.pick([0, 0.3]),
    accidents: 300,
    accidentEveryMs: random.pick([40, 100]),
    moves: random.pick([0.95, 1]),
    nodes: 4 + random.below(2),
    clients: 7,
    operations: 120,
    keys: 4,
    readOnly: random.pick([0.3, 0.6]),
  };
}

/** Owners crash in the middle of a commit, with many that build on each other. */
function crashes(random: Random): Partial<Plan> & Disturbance {
  return {
    ...CALM,
    dropped: random.pick([0, 0.05, 0.2]),
    veryLate: random.pick([0, 0, 0.02]),
    fatal: random.pick([0.003, 0.01]),
    unasked: 0.2,
    delayMs: random.pick([2, 10, 50]),
    lostAnswer: random.pick([0, 0.05]),
    storeDelayMs: random.pick([5, 20, 60]),
    clients: 7,
    keys: 2 + random.below(4),
    hot: random.pick([0, 0.5]),
    readOnly: 0.1,
  };
}

function anything(random: Random): Omit<Disturbance, 'foreign'> {
  return {
    dropped: random.pick([0, 0.01, 0.1]),
    repeated: random.pick([0, 0.05, 0.3]),
    veryLate: random.pick([0, 0, 0.02, 0.1]),
    misled: 0.01,
    fatal: 0,
    unheard: 0,
    unasked: 0.2,
    delayMs: random.pick([2, 10, 50]),
    lostRequest: random.pick([0, 0.01, 0.05]),
    lostAnswer: random.pick([0, 0.01, 0.1]),
    slowRead: 0,
    storeDelayMs: random.pick([3, 20, 60]),
    accidents: 1_000,
    accidentEveryMs: random.pick([100, 400, 2_000]),
    moves: 0.5,
  };
}

/** Nothing goes wrong in it, so nothing may take long. */
export function isCalm(plan: Plan): boolean {
  return Object.entries(CALM).every(([name, value]) => plan[name as keyof Plan] === value);
}
