import { natsRequestPeer } from './nats-sum.ts';

/** The option that the README of `nats` recommends for throughput: no Error with a stack for every request. */
export default natsRequestPeer('bench.request-tuned', { noAsyncTraces: true });
