/** What a worker says to a caller that asks again, and what callers make of it; a proxy breaks the connection. */
import {
  createConnection,
  createServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect as connectNats, createInbox } from 'nats';
import { connect, defineFunction, type CallError } from 'millrace';
import { answeredError, saysNotHere, saysNotRunning } from '../../src/bus/call-errors.ts';
import { callSizeBytes, decodeReplies, encodeCalls } from '../../src/bus/frame.ts';
import { openBus } from '../../src/client/client.ts';
import { ContentType } from '../../src/core/payload.ts';
import { parseSettings } from '../../src/core/settings.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { startTestWorker, type TestWorker } from '../support/worker.ts';
import { until } from '../support/wait.ts';

let broker: TestBroker;
let worker: TestWorker;

/** Between a client and the broker: `cut` ends all connections and takes no new ones until `mend`. */
class Proxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  constructor(targetPort: number) {
    this.#server = createServer((near) => {
      if (this.#isCut) {
        near.destroy();
        return;
      }
      const far = createConnection(targetPort, '127.0.0.1');
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => other.destroy());
        socket.pipe(other);
      }
    });
  }

  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `nats://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  mend(): void {
    this.#isCut = false;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

const runs: unknown[] = [];
const gates = new Map<unknown, () => void>();
const gated = defineFunction({
  name: 'gated',
  handler: ({ data }) => {
    runs.push(data);
    return new Promise((resolve) => gates.set(data, () => resolve(data)));
  },
});

beforeAll(async () => {
  broker = await startTestBroker();
});
afterEach(async () => {
  for (const open of gates.values()) open();
  await worker.stop();
  runs.length = 0;
  gates.clear();
});
afterAll(() => broker.stop());

describe('a call with retry: false whose connection breaks', () => {
  it('gets its result if it still runs; if its answer is lost it fails at once, and never runs twice', async () => {
    worker = await startTestWorker(broker.url, [gated]);
    const proxy = new Proxy(broker.port);
    await using client = await connect({ servers: await proxy.open() });
    const calls = ['lost', 'running'].map((data) => client.invoke(gated, data, { retry: false }));
    const [lost, running] = calls.map((call) =>
      call.then(
        (result) => ({ result }),
        ({ code, details }: CallError) => ({ code, details }),
      ),
    );
    await until('both run', () => runs.length === 2);
    proxy.cut();
    gates.get('lost')?.();
    await until('it is answered', () => worker.worker.inFlight === 1);
    const mendedAt = performance.now();
    proxy.mend();
    expect(await lost).toEqual({
      code: 'UNAVAILABLE',
      details: { outcome: 'unknown', attempts: 1 },
    });
    // Its deadline is 30 s away.
    expect(performance.now() - mendedAt).toBeLessThan(10_000);
    gates.get('running')?.();
    expect(await running).toEqual({ result: 'running' });
    expect(runs).toHaveLength(2);
    proxy.close();
  });
});

describe('a worker', () => {
  /** What the worker answers to a call of that function which comes as a question: again, with no time left. */
  async function ask(functionName: string): Promise<CallError> {
    await using nats = Object.assign(await connectNats({ servers: broker.url }), {
      [Symbol.asyncDispose]: () => nats.close(),
    });
    const caller = createInbox();
    const answers = nats.subscribe(`${caller}.c.r`, { max: 1 });
    const call = {
      functionName,
      encoded: { type: ContentType.json, body: '"asked"' },
      attempt: 2,
      retry: true,
      timeoutMs: 0,
      eventId: '',
      headers: '',
    };
    const frame = encodeCalls(1, [call], callSizeBytes(call));
    nats.publish(`millrace.worker.${worker.id}.call`, frame, { reply: `${caller}.c.f.1.1` });
    for await (const { data } of answers) {
      const [reply] = decodeReplies(data) ?? [];
      if (reply !== undefined) return answeredError(functionName, reply.body, parseSettings());
    }
    throw new Error('no answer');
  }

  it('that is asked for a call which it does not run says so, and starts nothing', async () => {
    worker = await startTestWorker(broker.url, [gated], { concurrency: 1, maxQueued: 1 });
    expect(saysNotRunning(await ask('gated'))).toBe(true);
    await using client = await connect({ servers: broker.url });
    const calls = [client.invoke(gated, 1)];
    await until('one runs', () => runs.length === 1);
    // Now its turn would be to wait, then there is no room at all.
    expect(saysNotRunning(await ask('gated'))).toBe(true);
    calls.push(client.invoke(gated, 2));
    await until('another waits', () => worker.worker.inFlight === 2);
    expect(saysNotRunning(await ask('gated'))).toBe(true);
    gates.get(1)?.();
    await until('the other runs', () => runs.length === 2);
    gates.get(2)?.();
    await Promise.all(calls);
    expect(runs).toEqual([1, 2]);
  });

  it('says in its own words that it does not have a function', async () => {
    worker = await startTestWorker(broker.url, [gated]);
    expect(saysNotHere(await ask('dropped'))).toBe(true);
  });
});

describe('a request on a connection that breaks', () => {
  it('fails at once, not at the end of its time', async () => {
    const proxy = new Proxy(broker.port);
    const { bus } = await openBus({ servers: await proxy.open() }, 'asks');
    const nats = await connectNats({ servers: broker.url });
    let asked = false;
    nats.subscribe('never.answered', { callback: () => (asked = true) });
    await nats.flush();
    const startMs = performance.now();
    const answer = bus.request('never.answered', new Uint8Array(), 20_000);
    const failed = answer.catch((error: unknown) => error);
    await until('it has arrived', () => asked);
    proxy.cut();
    expect(await failed).toMatchObject({ code: 'UNAVAILABLE' });
    expect(performance.now() - startMs).toBeLessThan(10_000);
    await bus.close();
    await nats.close();
    proxy.close();
  });
});
