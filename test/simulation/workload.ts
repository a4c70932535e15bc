/** Clients that append to lists and read them, over several keys, and note what they saw and when. */
import type { Age } from '../../src/core/state/age.ts';
import type { Failure, Transaction } from '../../src/core/state/transaction.ts';
import type { Cluster, Node } from './cluster.ts';
import type { Operation } from '../support/serializability.ts';
import type { Plan } from './plan.ts';

type WorkloadOptions = Pick<Plan, 'clients' | 'operations' | 'keys' | 'hot' | 'readOnly'>;

const DEADLINE_MS = 3_000;
const MAX_ATTEMPTS = 40;

interface Step {
  key: string;
  what: 'read' | 'append' | 'upgrade';
}

export class Workload {
  readonly history: Operation[] = [];
  readonly #cluster: Cluster;
  readonly #options: WorkloadOptions;
  #started = 0;
  running = 0;

  constructor(cluster: Cluster, options: WorkloadOptions) {
    this.#cluster = cluster;
    this.#options = options;
  }

  start(): void {
    for (let client = 0; client < this.#options.clients; client += 1) this.#next();
  }

  get done(): boolean {
    return this.running === 0 && this.#started >= this.#options.operations;
  }

  #next(): void {
    const { clock, random, nodes } = this.#cluster;
    if (this.#started >= this.#options.operations) return;
    this.#started += 1;
    this.running += 1;
    const operation: Operation = {
      id: this.#started,
      startMs: clock.nowMs,
      endMs: Number.POSITIVE_INFINITY,
      status: 'unknown',
      reads: [],
      appends: [],
    };
    this.history.push(operation);
    const node = random.pick(nodes);
    const over = (): void => {
      this.running -= 1;
      clock.after(random.between(0, 10), undefined, () => this.#next());
    };
    // A client gives up when its worker does not answer: it died, or sleeps.
    let ended = false;
    clock.after(DEADLINE_MS * 4, undefined, () => {
      if (!ended) over();
      ended = true;
    });
    this.#attempt(node, operation, this.#steps(), 1, undefined, (status) => {
      this.#cluster.trace(() => `operation ${operation.id} ends: ${status}`);
      operation.status = status;
      operation.endMs = clock.nowMs;
      if (!ended) over();
      ended = true;
    });
  }

  #steps(): Step[] {
    const { random } = this.#cluster;
    const { keys: all, hot, readOnly } = this.#options;
    const count = 1 + random.below(Math.min(4, all));
    const keys = new Set<string>();
    // The first keys are hot.
    while (keys.size < count) {
      const index = random.below(random.chance(hot) ? Math.min(2, all) : all);
      keys.add(`list/${index}`);
    }
    const onlyReads = random.chance(readOnly);
    return [...keys].map((key) => ({
      key,
      what: onlyReads ? 'read' : random.pick(['read', 'append', 'append', 'upgrade'] as const),
    }));
  }

  #attempt(
    node: Node,
    operation: Operation,
    steps: readonly Step[],
    count: number,
    age: Age | undefined,
    done: (status: Operation['status']) => void,
  ): void {
    const { clock, random } = this.#cluster;
    operation.reads = [];
    operation.appends = steps.filter(({ what }) => what !== 'read').map(({ key }) => key);
    const transaction = this.#cluster.begin(node, DEADLINE_MS, age);
    const { id } = transaction.identity;
    this.#cluster.trace(() => {
      const what = steps.map((step) => `${step.what} ${step.key}`).join(', ');
      return `operation ${operation.id} is tried as ${id}: ${what}`;
    });
    const ended = (failure: Failure | undefined): void => {
      if (!node.transactions.delete(id)) return;
      transaction.abandon();
      if (failure === undefined) done('ok');
      else if (failure.kind === 'unknown') done('unknown');
      else if (count >= MAX_ATTEMPTS) done('failed');
      else {
        clock.after(random.between(1, 20), node, () =>
          this.#attempt(node, operation, steps, count + 1, transaction.identity.age, done),
        );
      }
    };
    if (random.chance(0.5)) this.#oneByOne(node, transaction, operation, steps, ended);
    else this.#allAtOnce(node, transaction, operation, steps, ended);
  }

  #oneByOne(
    node: Node,
    transaction: Transaction,
    operation: Operation,
    [step, ...rest]: readonly Step[],
    ended: (failure: Failure | undefined) => void,
  ): void {
    if (step === undefined) this.#commit(node, transaction, ended);
    else {
      this.#do(node, transaction, operation, step, (failure) => {
        if (failure !== undefined) ended(failure);
        else this.#oneByOne(node, transaction, operation, rest, ended);
      });
    }
  }

  #allAtOnce(
    node: Node,
    transaction: Transaction,
    operation: Operation,
    steps: readonly Step[],
    ended: (failure: Failure | undefined) => void,
  ): void {
    let left = steps.length;
    for (const step of steps) {
      this.#do(node, transaction, operation, step, (failure) => {
        left -= 1;
        if (failure !== undefined) ended(failure);
        else if (left === 0) this.#commit(node, transaction, ended);
      });
    }
  }

  #do(
    node: Node,
    transaction: Transaction,
    operation: Operation,
    { key, what }: Step,
    done: (failure: Failure | undefined) => void,
  ): void {
    const mode = what === 'append' ? 'exclusive' : 'shared';
    transaction.read(key, mode, this.#cluster.now(node), (failure, value) => {
      if (failure !== undefined) {
        done(failure);
        return;
      }
      const list = value === null ? [] : (JSON.parse(value) as number[]);
      operation.reads.push({ key, list });
      if (what !== 'read') {
        const text = JSON.stringify([...list, operation.id]);
        transaction.write(key, text, this.#cluster.now(node));
      }
      // The handler's own time.
      const { clock, random } = this.#cluster;
      clock.after(random.between(0, 3), node, () => done(undefined));
    });
  }

  #commit(
    node: Node,
    transaction: Transaction,
    ended: (failure: Failure | undefined) => void,
  ): void {
    transaction.commit([], this.#cluster.now(node), (failure) => ended(failure));
  }
}
