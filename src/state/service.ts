/** State of one worker: hosting, coordinating and the messages between them, put together. */
import type { Logger } from 'pino';
import { AssignmentStore } from '../bus/assignment-store.ts';
import type { Bus } from '../bus/connection.ts';
import { LogStreams } from '../bus/log-streams.ts';
import type { Publisher } from '../bus/publisher.ts';
import { Retention } from '../bus/retention.ts';
import type { Settings } from '../core/settings.ts';
import { itemKey } from '../core/state/keys.ts';
import { Places } from '../core/state/layout.ts';
import { Cluster } from './cluster.ts';
import { assertFits } from './fits.ts';
import { Hosting } from './hosting.ts';
import { JoinServer } from './join.ts';
import { LogEnd } from './log-end.ts';
import { Peers } from './peers.ts';
import { ringOf } from './rings.ts';
import { Transactions } from './transactions.ts';

export interface StateOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  workerId: string;
  publisher: Publisher;
}

export class StateService {
  readonly transactions: Transactions;
  readonly hosting: Hosting;
  readonly cluster: Cluster;
  readonly places: Places;
  readonly store: AssignmentStore;
  readonly retention: Retention;
  readonly #settings: Settings;
  readonly #peers: Peers;
  readonly #joins: JoinServer;
  readonly #streams: LogStreams;
  readonly #logEnd: LogEnd;

  private constructor(
    { bus, settings, log, workerId, publisher }: StateOptions,
    streams: LogStreams,
    retention: Retention,
    store: AssignmentStore,
    assignment: Awaited<ReturnType<AssignmentStore['read']>>,
  ) {
    this.#settings = settings;
    this.#streams = streams;
    this.retention = retention;
    this.#logEnd = new LogEnd({ bus, log, store, streams });
    this.places = new Places(assignment.layout, ringOf);
    this.store = store;
    const { places } = this;
    const settled = (): number => this.hosting.settled;
    this.cluster = new Cluster(
      bus,
      settings,
      {
        id: workerId,
        capacity: settings.capacity,
        get partitions() {
          return places.layout.from;
        },
        get settled() {
          return settled();
        },
        owned: () => this.hosting.owned(),
      },
      {
        onOwner: (partition) => {
          this.hosting.claimed(partition);
          this.#ownerChanged(partition);
        },
        onGone: (gone) => this.hosting.coordinatorGone(gone),
        onMembers: () => this.hosting.reconcile(),
        onForeign: ({ code, message }) => log.error(`${message} [${code}]`),
      },
    );
    this.#peers = new Peers(
      bus,
      settings,
      workerId,
      (partition) => this.cluster.ownerOf(partition),
      {
        toPartition: (partition, message) => this.hosting.receive(partition, message),
        toCoordinator: (message) => {
          if (message.kind === 'elsewhere') {
            places.learn(message.generation, message.partition, message.to);
          }
          this.transactions.receive(message);
        },
        onBounced: (partition, tx) => this.transactions.bounced(partition, tx),
        onGone: (gone) => this.cluster.gone(gone),
      },
    );
    this.transactions = new Transactions(workerId, settings, {
      toPartition: (partition, message) => this.#peers.toPartition(partition, message),
      partitionOf: (item) => places.partitionOf(item),
    });
    this.#joins = new JoinServer(bus, settings, workerId, this.transactions.attempts);
    this.hosting = new Hosting(
      {
        bus,
        settings,
        log,
        workerId,
        store,
        streams,
        publisher,
        cluster: this.cluster,
        places,
        toPartition: (partition, message) => this.#peers.toPartition(partition, message),
        toCoordinator: (worker, message) => this.#peers.toCoordinator(worker, message),
        onOwned: (partition) => this.#ownerChanged(partition),
      },
      assignment,
    );
  }

  /**
   * Creates streams and table where they are missing. Throws UNAVAILABLE where JetStream does not serve, USAGE where the broker's
   * messages are too small, RESTORE_UNFINISHED.
   */
  static async open(options: StateOptions): Promise<StateService> {
    const { bus, settings, workerId } = options;
    assertFits(bus.maxMessageBytes, settings);
    const store = await AssignmentStore.open(bus, settings);
    const assignment = await store.read();
    const retention = new Retention(bus, settings, workerId);
    try {
      const streams = await LogStreams.open(bus, settings, retention);
      return new StateService(options, streams, retention, store, assignment);
    } catch (error) {
      retention.close();
      throw error;
    }
  }

  /** Takes its share of the partitions from now on. */
  start(): void {
    this.cluster.host(true);
    this.hosting.reconcile();
  }

  /** Takes no more partitions: the other workers take those that it has. */
  leave(): void {
    this.cluster.host(false);
  }

  /** Hands over what it owns, or lets it come to an end, and stops. */
  async close(): Promise<void> {
    await this.hosting.handOver(this.#settings.drainTimeoutMs);
    await this.hosting.close();
    this.#joins.close();
    this.transactions.close();
    this.cluster.close();
    this.#peers.close();
    this.retention.close();
    this.#logEnd.close();
    this.#streams.close();
  }

  /** Appends to journals and claims. */
  get appended(): LogStreams['counts'] {
    return this.#streams.counts;
  }

  /** The worker with the state of the key; undefined where nobody is known to have it. */
  ownerOf(key: string): string | undefined {
    return this.cluster.ownerOf(this.partitionOf(key));
  }

  /** Where the state of the key is believed to lie. */
  partitionOf(key: string): number {
    return this.places.partitionOf(itemKey('', key));
  }

  #ownerChanged(partition: number): void {
    const found = this.cluster.ownerOf(partition) !== undefined;
    this.transactions.ownerChanged(partition, found);
  }
}
