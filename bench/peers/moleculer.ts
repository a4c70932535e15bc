import { createRequire } from 'node:module';
import type { Peer, Role } from '../protocol.ts';
import { add, sumRequest, type SumReply, type SumRequest } from '../work.ts';

/** What of moleculer is used here; the package is not installed where the types are checked. */
interface ServiceBroker {
  createService(schema: {
    name: string;
    actions: Record<string, (context: { params: SumRequest }) => SumReply>;
  }): unknown;
  start(): Promise<void>;
  stop(): Promise<void>;
  waitForServices(names: string[], timeoutMs: number): Promise<unknown>;
  call(action: string, params: SumRequest): Promise<SumReply>;
}

interface Moleculer {
  ServiceBroker: new (options: object) => ServiceBroker;
}

const SERVICE = 'bench';
const WAIT_MS = 15_000;

/**
 * Off: everything that costs a call something and can be switched off (log, metrics, tracing, validator, cacher,
 * internal `$node` service, request timeout, retries, tracking). On: Moleculer's own balancer, which addresses the
 * node directly; `disableBalancer: true` (NATS queue groups instead) measured no faster with one worker.
 */
function createBroker(url: string, role: Role): ServiceBroker {
  const { ServiceBroker } = createRequire(import.meta.url)('moleculer') as Moleculer;
  return new ServiceBroker({
    nodeID: `bench-${role}-${process.pid}`,
    logger: false,
    transporter: url,
    serializer: 'JSON',
    disableBalancer: false,
    registry: { strategy: process.env['MOLECULER_STRATEGY'] ?? 'RoundRobin' },
    validator: false,
    cacher: false,
    metrics: { enabled: false },
    tracing: { enabled: false },
    tracking: { enabled: false },
    contextParamsCloning: false,
    requestTimeout: 0,
    internalServices: false,
    skipProcessEventRegistration: true,
  });
}

export default {
  async startWorker(url) {
    const broker = createBroker(url, 'worker');
    broker.createService({ name: SERVICE, actions: { sum: (context) => add(context.params) } });
    await broker.start();
    return { close: () => broker.stop() };
  },
  async startCaller(url) {
    const broker = createBroker(url, 'caller');
    await broker.start();
    await broker.waitForServices([SERVICE], WAIT_MS);
    return {
      call: async (a, b) => (await broker.call(`${SERVICE}.sum`, sumRequest(a, b))).sum,
      close: () => broker.stop(),
    };
  },
} satisfies Peer;
