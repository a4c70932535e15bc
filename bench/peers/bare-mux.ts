import { connect, createInbox } from 'nats';
import type { Peer } from '../protocol.ts';
import { add, sumRequest, type SumReply, type SumRequest } from '../work.ts';

const SUBJECT = 'bench.mux';

function decode(data: Uint8Array): unknown {
  return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.length).toString());
}

/**
 * The limit for one message a call through package `nats`: one wildcard inbox, a Map of waiting calls, a reply
 * subject. No timeout, no error answers, no headers, no validation.
 */
export default {
  async startWorker(url) {
    const nc = await connect({ servers: url });
    nc.subscribe(SUBJECT, {
      queue: 'workers',
      callback: (error, message) => {
        if (error !== null || message.reply === undefined) return;
        nc.publish(message.reply, JSON.stringify(add(decode(message.data) as SumRequest)));
      },
    });
    await nc.flush();
    return { close: () => nc.close() };
  },
  async startCaller(url) {
    const nc = await connect({ servers: url });
    const inbox = `${createInbox()}.`;
    const waiting = new Map<string, (sum: number) => void>();
    let next = 0;
    nc.subscribe(`${inbox}*`, {
      callback: (error, message) => {
        if (error !== null) return;
        const token = message.subject.slice(inbox.length);
        const resolve = waiting.get(token);
        // An answer without data: there is no subscriber on the subject (yet).
        if (resolve === undefined || message.data.length === 0) return;
        waiting.delete(token);
        resolve((decode(message.data) as SumReply).sum);
      },
    });
    await nc.flush();
    return {
      call: (a, b) =>
        new Promise((resolve) => {
          const token = (next++).toString(36);
          waiting.set(token, resolve);
          nc.publish(SUBJECT, JSON.stringify(sumRequest(a, b)), { reply: inbox + token });
        }),
      close: () => nc.close(),
    };
  },
} satisfies Peer;
