import { natsRequestPeer } from './nats-sum.ts';

export default natsRequestPeer('bench.request', {});
