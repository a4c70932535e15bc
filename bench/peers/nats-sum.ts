import { connect, type ConnectionOptions } from 'nats';
import type { Peer } from '../protocol.ts';
import { add, sumRequest, type SumReply, type SumRequest } from '../work.ts';

const TIMEOUT_MS = 10_000;

/** `nc.request` of package `nats` against a queue subscriber: what a user of NATS writes first. */
export function natsRequestPeer(subject: string, options: ConnectionOptions): Peer {
  return {
    async startWorker(url) {
      const nc = await connect({ servers: url });
      nc.subscribe(subject, {
        queue: 'workers',
        callback: (error, message) => {
          if (error === null) message.respond(JSON.stringify(add(message.json<SumRequest>())));
        },
      });
      await nc.flush();
      return { close: () => nc.close() };
    },
    async startCaller(url) {
      const nc = await connect({ ...options, servers: url });
      return {
        async call(a, b) {
          const payload = JSON.stringify(sumRequest(a, b));
          const reply = await nc.request(subject, payload, { timeout: TIMEOUT_MS });
          return reply.json<SumReply>().sum;
        },
        close: () => nc.close(),
      };
    },
  };
}
