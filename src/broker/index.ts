/**
 * A real nats-server for local use: found or fetched, started on the loopback interface with a synced store,
 * and never left behind.
 *
 * B1 A server older than MINIMUM_SERVER_VERSION is refused, before and after the start (find.ts, start.ts).
 * B2 Nothing that was downloaded is unpacked before its bytes match the pinned integrity (fetch.ts).
 * B3 One server a store: the lock is the server's, not its starter's (store.ts, lock.ts).
 * B4 The server ends when its starter ends, also by SIGKILL (process.ts).
 */
export { MINIMUM_SERVER_VERSION } from '../core/version.ts';
export { type BrokerCluster, clusterPorts, freeClusterPorts, startCluster } from './cluster.ts';
export { type BrokerBinary, findBroker, type FindBrokerOptions } from './find.ts';
export type { ExitStatus } from './process.ts';
export { type Broker, startBroker, type StartBrokerOptions } from './start.ts';
