/**
 * NATS service discovery (ADR-32): every worker answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, also by service
 * name and by id, with its functions as endpoints, so that `nats micro ls` and every other tool of NATS finds them.
 * Not the library's own service: that one insists on the subscriptions and counters of each endpoint itself.
 */
import {
  ServiceResponseType,
  ServiceVerb,
  type Msg,
  type NamedEndpointStats,
  type ServiceIdentity,
  type ServiceInfo,
  type ServiceStats,
  type Subscription,
} from 'nats';
import type { Bus } from '../bus/connection.ts';
import { writeControl } from '../bus/messages.ts';
import type { FunctionReport } from '../core/report.ts';

export interface DiscoveredFunction extends FunctionReport {
  /** The subject on which the function is requested by name. */
  subject: string;
  queueGroup: string;
  processingMs: number;
  lastError: string;
}

export interface DiscoveryOptions {
  /** The service's name: the namespace. */
  name: string;
  workerId: string;
  /** The package's version. */
  version: string;
  startedAt: string;
  functions: () => DiscoveredFunction[];
}

const NANOSECONDS_A_MILLISECOND = 1e6;

export class Discovery {
  readonly #options: DiscoveryOptions;
  readonly #subscriptions: Subscription[];

  constructor(bus: Bus, options: DiscoveryOptions) {
    this.#options = options;
    const { name, workerId } = options;
    const answers: [ServiceVerb, () => object][] = [
      [ServiceVerb.PING, () => this.#ping()],
      [ServiceVerb.INFO, () => this.#info()],
      [ServiceVerb.STATS, () => this.#stats()],
    ];
    this.#subscriptions = answers.flatMap(([verb, answer]) => {
      const onMessage = ({ reply }: Msg): void => bus.answer(reply, writeControl(answer()));
      const subject = `$SRV.${verb}`;
      return [subject, `${subject}.${name}`, `${subject}.${name}.${workerId}`].map((each) =>
        bus.subscribe(each, onMessage),
      );
    });
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  #identity(): Omit<ServiceIdentity, 'type'> {
    const { name, workerId: id, version } = this.#options;
    return { name, id, version, metadata: {} };
  }

  #ping(): ServiceIdentity & { type: ServiceResponseType.PING } {
    return { type: ServiceResponseType.PING, ...this.#identity() };
  }

  #info(): ServiceInfo {
    const endpoints = this.#options
      .functions()
      .map(({ name, subject, queueGroup, version, on }) => ({
        name,
        subject,
        queue_group: queueGroup,
        metadata: { version, on: on.join(' ') },
      }));
    return {
      type: ServiceResponseType.INFO,
      ...this.#identity(),
      description: 'millrace worker',
      endpoints,
    };
  }

  #stats(): ServiceStats {
    const endpoints = this.#options.functions().map((report): NamedEndpointStats => ({
      name: report.name,
      subject: report.subject,
      queue_group: report.queueGroup,
      num_requests: report.calls,
      num_errors: report.errors,
      last_error: report.lastError,
      processing_time: Math.round(report.processingMs * NANOSECONDS_A_MILLISECOND),
      average_processing_time: Math.round(
        (report.processingMs / Math.max(1, report.calls)) * NANOSECONDS_A_MILLISECOND,
      ),
    }));
    const { startedAt: started } = this.#options;
    return { type: ServiceResponseType.STATS, ...this.#identity(), started, endpoints };
  }
}
