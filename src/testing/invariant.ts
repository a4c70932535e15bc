/** A user's own load under faults, and what must hold whatever happens. */
import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError, messageOf } from '../core/errors.ts';
import { Random } from './random.ts';
import type { TestMill } from './test-mill.ts';

/** Worker and times are drawn. `kill-worker` and `kill-coordinator` start another worker. */
const FAULTS = {
  'kill-worker': async (mill, random) => {
    await mill.killWorker(random.pick(mill.workers));
    await mill.startWorker();
  },
  'kill-coordinator': async (mill) => {
    await mill.faults.killCoordinator({ timeoutMs: MEETING_MS });
    await mill.startWorker();
  },
  'drop-vote': async (mill, random) =>
    mill.faults.drop('vote', { times: 1 + random.below(3), timeoutMs: MEETING_MS }),
  'drop-outcome': async (mill, random) =>
    mill.faults.drop('outcome', { times: 1 + random.below(3), timeoutMs: MEETING_MS }),
  'delay-appends': async (mill, random) =>
    mill.faults.delayAppends(random.between(20, 400), { forMs: random.between(200, 1_000) }),
  'pause-worker': async (mill, random) =>
    mill.faults.pauseWorker(random.between(100, LONGEST_MS), { worker: random.pick(mill.workers) }),
  'cut-off': async (mill, random) =>
    mill.faults.cutOff(random.between(100, LONGEST_MS), { worker: random.pick(mill.workers) }),
  'kill-server': async (mill, random) =>
    mill.faults.killServer(random.between(0, LONGEST_MS), { server: random.below(mill.servers) }),
} satisfies Record<string, (mill: TestMill, random: Random) => Promise<unknown>>;
export type FaultName = keyof typeof FAULTS;
const NAMES = Object.keys(FAULTS) as FaultName[];

export interface InvariantCheck {
  /** One step of the load; it is called again and again, by `clients` at once. A MillraceError that it throws counts as a step that failed, anything else breaks the check. */
  during: (step: number) => Promise<unknown>;
  /**
   * Throws, or gives false, where something is not as it must be. What it reads of several keys has to be read by one function:
   * transactions go on meanwhile. A retryable MillraceError says nothing, unless all is at rest.
   */
  invariant: () => Promise<unknown>;
  /** Which faults are drawn; `random`, the default: all of them, `kill-server` only of three servers. */
  faults?: 'random' | readonly FaultName[];
  /** How long things happen; default 10. */
  seconds?: number;
  /** What the order of faults, their workers and times are drawn from; default: a new one. What happens in between is the machine's own. */
  seed?: number;
  /** Steps at once; default 4. */
  clients?: number;
}

export interface InvariantReport {
  seed: number;
  /** Steps of the load that succeeded. */
  steps: number;
  /** By code. */
  failed: Record<string, number>;
  /** How often the invariant was looked at and held, the one at rest among them. */
  held: number;
  faults: { fault: FaultName; atMs: number; forMs: number; missed?: string }[];
}

/** Longer than it takes a worker to lose its partitions. */
const LONGEST_MS = 3_000;
/** How long a fault waits for a message that it is to befall. */
const MEETING_MS = 2_000;
const BETWEEN_MS = [50, 500] as const;
const LOOK_EVERY_MS = 50;
const MAX_SECONDS = 86_400;
const MAX_CLIENTS = 256;
const MAX_SEED = 2 ** 32;
const AT_REST_MS = 60_000;
const SHOWN_FAULTS = 20;
/** Kept of a long run. */
const MAX_FAULTS_KEPT = 10_000;

/** See TestMill. */
export async function checkInvariant(
  mill: TestMill,
  check: InvariantCheck,
): Promise<InvariantReport> {
  const { seconds = 10, clients = 4, seed = Math.floor(Math.random() * MAX_SEED) } = check;
  const names =
    check.faults === undefined || check.faults === 'random'
      ? NAMES.filter((name) => name !== 'kill-server' || mill.servers > 1)
      : check.faults;
  assert(
    seconds > 0 && seconds <= MAX_SECONDS,
    `seconds must be more than 0, at most ${MAX_SECONDS}`,
  );
  assert(
    Number.isInteger(clients) && clients > 0 && clients <= MAX_CLIENTS,
    `clients must be 1 to ${MAX_CLIENTS}`,
  );
  assert(
    Number.isInteger(seed) && seed >= 0 && seed < MAX_SEED,
    'seed must be a whole number below 2^32',
  );
  assert(
    names.length > 0 && names.every((name) => NAMES.includes(name)),
    `faults are ${NAMES.join(', ')}`,
  );
  const run = new Run(mill, check, names, seed);
  await run.go(seconds * 1_000, clients);
  return run.report;
}

class Run {
  readonly report: InvariantReport;
  readonly #mill: TestMill;
  readonly #check: InvariantCheck;
  readonly #names: readonly FaultName[];
  readonly #random: Random;
  readonly #startedAtMs = performance.now();
  #next = 0;
  #broken: MillraceError | undefined;
  #over = false;

  constructor(mill: TestMill, check: InvariantCheck, names: readonly FaultName[], seed: number) {
    this.#mill = mill;
    this.#check = check;
    this.#names = names;
    this.#random = new Random(seed);
    this.report = { seed, steps: 0, failed: {}, held: 0, faults: [] };
  }

  async go(forMs: number, clients: number): Promise<void> {
    const endMs = this.#startedAtMs + forMs;
    await this.#look(true);
    const load = Array.from({ length: clients }, async () => this.#load());
    const looks = this.#lookAgain();
    await this.#befall(endMs);
    this.#over = true;
    await Promise.all([...load, looks]);
    if (this.#broken === undefined) await this.#rest();
    if (this.#broken === undefined && this.report.steps === 0) {
      this.#breaks('no step of the load has succeeded');
    }
    if (this.#broken !== undefined) throw this.#broken;
  }

  async #befall(endMs: number): Promise<void> {
    while (this.#goesOn() && performance.now() < endMs) {
      // Drawn whether they are met or not, so that a seed gives the same ones.
      const fault = this.#random.pick(this.#names);
      const own = new Random(this.#random.below(MAX_SEED));
      await delay(this.#random.between(...BETWEEN_MS));
      const beganMs = performance.now();
      let missed: string | undefined;
      try {
        await FAULTS[fault](this.#mill, own);
      } catch (error) {
        // Nothing came by that it could befall.
        if (!isMillraceError(error) || error.code !== 'TIMEOUT') {
          this.#breaks(`${fault} could not be brought about: ${messageOf(error)}`, error);
          return;
        }
        missed = messageOf(error);
      }
      if (this.report.faults.length < MAX_FAULTS_KEPT) {
        this.report.faults.push({
          fault,
          atMs: Math.round(beganMs - this.#startedAtMs),
          forMs: Math.round(performance.now() - beganMs),
          ...(missed === undefined ? {} : { missed }),
        });
      }
    }
  }

  async #load(): Promise<void> {
    while (this.#goesOn()) {
      const step = this.#next;
      this.#next += 1;
      try {
        await this.#check.during(step);
        this.report.steps += 1;
      } catch (error) {
        if (!isMillraceError(error)) this.#breaks(`the load threw: ${messageOf(error)}`, error);
        else {
          this.report.failed[error.code] = (this.report.failed[error.code] ?? 0) + 1;
          // One that fails at once must not keep the processor from those that would mend it.
          await delay(1);
        }
      }
    }
  }

  async #lookAgain(): Promise<void> {
    while (this.#goesOn()) {
      await this.#look(false);
      await delay(LOOK_EVERY_MS);
    }
  }

  async #rest(): Promise<void> {
    try {
      await this.#mill.settled(AT_REST_MS);
    } catch (error) {
      this.#breaks(messageOf(error), error);
      return;
    }
    await this.#look(true);
  }

  /** `atRest`: then it must be able to say. */
  async #look(atRest: boolean): Promise<void> {
    try {
      const held = await this.#check.invariant();
      if (held === false) this.#breaks('the invariant gives false');
      else this.report.held += 1;
    } catch (error) {
      const saysNothing = isMillraceError(error) && error.retryable && !atRest;
      if (!saysNothing) this.#breaks(messageOf(error), error);
    }
  }

  #goesOn(): boolean {
    return !this.#over && this.#broken === undefined;
  }

  #breaks(why: string, cause?: unknown): void {
    const { seed, steps, faults } = this.report;
    const shown = faults.slice(-SHOWN_FAULTS).map(({ fault, atMs, forMs, missed }) => {
      return `${fault} at ${atMs} ms${missed === undefined ? ` for ${forMs} ms` : ', missed'}`;
    });
    const happened = shown.length === 0 ? 'before any fault' : shown.join('; ');
    this.#broken ??= new MillraceError(
      'INVARIANT_BROKEN',
      `Seed ${seed}, after ${steps} steps and ${Math.round(performance.now() - this.#startedAtMs)} ms: ${why}. What happened: ${happened}.`,
      { cause, details: this.report },
    );
  }
}

/** The user's copy of the package may be another one than this. */
function isMillraceError(error: unknown): error is MillraceError {
  return (
    error instanceof Error &&
    typeof (error as { code?: unknown }).code === 'string' &&
    'retryable' in error
  );
}

function assert(holds: boolean, otherwise: string): void {
  if (!holds) throw new MillraceError('INVALID_INPUT', `${otherwise}.`);
}
