/**
 * The one NATS connection of a process. Adds to the `nats` client what production needs of it:
 * it never gives up reconnecting, notices a dead link within seconds, tells its users when it is down instead of
 * losing what they publish, and refuses a server that is too old.
 */
import {
  DiscardPolicy,
  connect,
  createInbox,
  Events,
  StorageType,
  type ConnectionOptions,
  type KV,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  type ObjectStore,
  type Subscription,
} from 'nats';
import { MillraceError, messageOf } from '../core/errors.ts';
import { quote } from '../core/names.ts';
import { inboxOf, type Role } from '../core/permissions.ts';
import { parseServerUrl, withoutPassword } from '../core/server-url.ts';
import { mayBeAnswered } from '../core/subjects.ts';
import { isAtLeast, MINIMUM_SERVER_VERSION } from '../core/version.ts';
import {
  credentialsFrom,
  tlsFrom,
  whyUntrusted,
  type CredentialFiles,
  type TlsFiles,
} from './authentication.ts';

const ACKNOWLEDGEMENT_PREFIX = '$JS.ACK.';

/** Codes of the client's errors: its enum is typed, its errors' `code` is any text. */
const TIMEOUT_CODE = 'TIMEOUT';
const NO_RESPONDERS_CODE = '503';
const FORBIDDEN_CODE = 'PERMISSIONS_VIOLATION';

const WHITE_SPACE = /\s/;

/** `details` of the UNAVAILABLE that a request without any listener fails with. */
export const NO_RESPONDERS = 'no responders';

const PING_INTERVAL_MS = 5_000;
const MAX_PINGS_OUT = 2;
const RECONNECT_WAIT_MS = 250;
const RECONNECT_JITTER_MS = 250;
const CONNECT_TIMEOUT_MS = 4_000;
/** Answers that were refused are told of at most once in this time: whoever asks could fill the log otherwise. */
const REFUSED_ANSWER_NOTICE_MS = 60_000;

export interface BusOptions extends CredentialFiles {
  /** URL or URLs; user and password, or a token, may stand in them. Default `NATS_URL`'s or the local server. */
  servers: string | readonly string[];
  tls?: TlsFiles | undefined;
  /** Whose permissions it has (core/permissions.ts); undefined where there are none. */
  role?: Role | undefined;
  /** Where answers come; default: the role's own inbox, else `_INBOX`. */
  inboxPrefix?: string | undefined;
  /** Shown by the broker in its list of connections. */
  name: string;
  /** Nothing is answered on subjects below it: they are the platform's own. */
  namespace: string;
  /** Told of what has no caller to tell: refused permissions, a subscriber that threw. */
  onProblem?: (problem: MillraceError) => void;
}

export interface PublishOptions {
  reply?: string;
  headers?: MsgHdrs;
}

export type MessageHandler = (message: Msg) => void;

export class Bus {
  readonly #connection: NatsConnection;
  readonly #onProblem: (problem: MillraceError) => void;
  readonly #namespace: string;
  readonly #role: Role | undefined;
  readonly #refusalListeners = new Set<(subject: string) => void>();
  readonly #statusListeners = new Set<(up: boolean) => void>();
  /** A unique prefix for replies to this process: everything below it is ours. */
  readonly inbox: string;
  /** Requests under way: called when the connection breaks. */
  readonly #waiting = new Set<() => void>();
  #up = true;
  #epoch = 1;
  #refusedAnswerToldAtMs = Number.NEGATIVE_INFINITY;

  private constructor(connection: NatsConnection, options: BusOptions) {
    this.#connection = connection;
    this.#onProblem = options.onProblem ?? (() => {});
    this.#namespace = options.namespace;
    this.#role = options.role;
    this.inbox = createInbox(inboxPrefixOf(options));
    void this.#watch();
  }

  /** Throws USAGE, before it connects, CONNECTION_FAILED or BROKER_TOO_OLD, one sentence each. */
  static async open(options: BusOptions): Promise<Bus> {
    const servers = typeof options.servers === 'string' ? [options.servers] : [...options.servers];
    const settled = await connectionOptions(servers, options);
    let connection: NatsConnection;
    try {
      connection = await connect(settled);
    } catch (cause) {
      throw connectionFailed(servers, cause);
    }
    const version = connection.info?.version ?? '0.0.0';
    if (!isAtLeast(version, MINIMUM_SERVER_VERSION)) {
      await connection.close();
      throw new MillraceError(
        'BROKER_TOO_OLD',
        `The NATS server at ${shown(servers)} is ${version}; millrace needs ${MINIMUM_SERVER_VERSION} or newer, because older ones do not fence writers reliably.`,
      );
    }
    return new Bus(connection, options);
  }

  get up(): boolean {
    return this.#up;
  }

  /** It may call functions only as one who is none of the workers. */
  get outside(): boolean {
    return this.#role !== undefined && this.#role !== 'worker';
  }

  /** Are there permissions that may forbid what it publishes? */
  get restricted(): boolean {
    return this.#role !== undefined;
  }

  /** Counts the connections to the broker since the start: what was sent under an earlier one may be lost. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Whether the server says of itself that it has JetStream. In a cluster others may have it. */
  get jetStreamHere(): boolean {
    return this.#connection.info?.jetstream === true;
  }

  /** What the server that this process is connected to says of itself. */
  get server(): { version: string; name: string; cluster: string | undefined } {
    const { version = '0.0.0', server_name: name = '', cluster } = this.#connection.info ?? {};
    return { version, name, cluster };
  }

  /** The largest message that the broker takes, headers included. */
  get maxMessageBytes(): number {
    return this.#connection.info?.max_payload ?? 1024 * 1024;
  }

  /**
   * Throws UNAVAILABLE while the connection is down: nothing is dropped in silence. INVALID_INPUT for a subject with white space: the
   * client does not look, and what follows would be a command to the broker.
   */
  publish(subject: string, payload: Uint8Array, options?: PublishOptions): void {
    if (WHITE_SPACE.test(subject)) {
      throw new MillraceError('INVALID_INPUT', `Nothing is published on ${quote(subject)}.`);
    }
    if (!this.#up) {
      throw new MillraceError('UNAVAILABLE', 'The connection to NATS is down.');
    }
    // A copy: the client writes its defaults into the object that it is given.
    this.#connection.publish(subject, payload, { ...options });
  }

  /**
   * Publishes to a subject that somebody else has named, as the reply subject of a message. Dropped where nobody
   * asks, while the connection is down, and on a subject of the broker's or the platform's: a requester must not
   * make this process speak where only this process may.
   */
  answer(reply: string | undefined, payload: Uint8Array, options?: PublishOptions): void {
    if (reply === undefined || reply === '' || !this.#up) return;
    const inboxesOnly = this.#role !== undefined;
    if (mayBeAnswered(reply, this.#namespace, inboxesOnly)) this.publish(reply, payload, options);
    else this.#answerRefused(reply);
  }

  /** The handler must not block; what it throws is reported, it would otherwise end the client's read loop. */
  subscribe(subject: string, handler: MessageHandler, queue?: string): Subscription {
    return this.#connection.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback: (error, message) => {
        if (error !== null) {
          this.#onProblem(refused(subject, error));
          return;
        }
        try {
          handler(message);
        } catch (cause) {
          this.#onProblem(
            new MillraceError(
              'FUNCTION_FAILED',
              `A message on ${message.subject} was not handled: ${messageOf(cause)}`,
              {
                cause,
              },
            ),
          );
        }
      },
    });
  }

  /**
   * One request, one answer; for what is not hot: each such request costs several times a call in a frame.
   * Throws UNAVAILABLE where nobody listens, or the connection is down or breaks meanwhile; TIMEOUT where nobody answers.
   */
  async request(subject: string, payload: Uint8Array, timeoutMs: number): Promise<Msg> {
    if (!this.#up) throw new MillraceError('UNAVAILABLE', 'The connection to NATS is down.');
    try {
      return await this.#unlessLost(
        this.#connection.request(subject, payload, { timeout: timeoutMs }),
      );
    } catch (cause) {
      const { code } = cause as { code?: string };
      if (code === TIMEOUT_CODE) {
        throw new MillraceError('TIMEOUT', `No answer on ${subject} within ${timeoutMs} ms.`, {
          cause,
        });
      }
      if (code === FORBIDDEN_CODE) throw forbidden('publish', subject, cause);
      const nobody = code === NO_RESPONDERS_CODE;
      const why = nobody ? `nobody listens on ${subject}` : messageOf(cause);
      throw new MillraceError('UNAVAILABLE', `The request was not answered: ${why}.`, {
        cause,
        ...(nobody ? { details: NO_RESPONDERS } : {}),
      });
    }
  }

  /** Resolves when the broker has processed everything published so far; rejects with UNAVAILABLE. */
  async flush(): Promise<void> {
    try {
      await this.#connection.flush();
    } catch (cause) {
      throw new MillraceError('UNAVAILABLE', 'The connection to NATS broke.', { cause });
    }
  }

  /**
   * A KV bucket in files, created where it is missing; for what is rare: its requests are not cheap. Its `get` asks the
   * leader, also of a bucket that would let any replica answer (`allow_direct`): that one may not have heard yet of what
   * was acknowledged before. Its `keys` and `watch` may be behind in the same way; see `bus/bucket-keys.ts`.
   */
  async keyValue(bucket: string, replicas: number): Promise<KV> {
    return this.#connection.jetstream().views.kv(bucket, {
      history: 1,
      storage: StorageType.File,
      replicas,
      allow_direct: false,
    });
  }

  /** Large things by name, in files; created where it is missing. */
  async objectStore(bucket: string, replicas: number): Promise<ObjectStore> {
    const manager = await this.#connection.jetstreamManager();
    // Made here: the client would send `replicas` along, a field that the server refuses.
    const made = manager.streams.add({
      name: `OBJ_${bucket}`,
      subjects: [`$O.${bucket}.C.>`, `$O.${bucket}.M.>`],
      storage: StorageType.File,
      discard: DiscardPolicy.New,
      num_replicas: replicas,
      allow_direct: false,
      allow_rollup_hdrs: true,
    });
    // Who may only read finds it there.
    await made.catch((error: unknown) => {
      if ((error as { code?: string }).code !== FORBIDDEN_CODE) throw error;
    });
    return this.#connection.jetstream().views.os(bucket);
  }

  /** `listener` hears true when the connection is back and false when it is lost. Returns how to stop listening. */
  onStatus(listener: (up: boolean) => void): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  /** `listener` hears of what was published on a subject that NATS permissions forbid. Returns how to stop listening. */
  onRefused(listener: (subject: string) => void): () => void {
    this.#refusalListeners.add(listener);
    return () => this.#refusalListeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#up = false;
    this.#statusListeners.clear();
    await this.#connection.close();
  }

  /** The client waits to the end of the time for an answer that was lost with its connection. */
  #unlessLost<Answer>(answer: Promise<Answer>): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const lost = (): void => reject(new Error('the connection was lost'));
      const answered = (): void => void this.#waiting.delete(lost);
      this.#waiting.add(lost);
      void answer.then(resolve, reject).finally(answered);
    });
  }

  #answerRefused(reply: string): void {
    // A stream that delivers expects its acknowledgement there, not an answer: nobody has asked.
    if (reply.startsWith(ACKNOWLEDGEMENT_PREFIX)) return;
    const now = performance.now();
    if (now - this.#refusedAnswerToldAtMs < REFUSED_ANSWER_NOTICE_MS) return;
    this.#refusedAnswerToldAtMs = now;
    this.#onProblem(
      new MillraceError(
        'INVALID_INPUT',
        `A request with the reply subject ${quote(reply)} is not answered: the subject is the broker's or the platform's own. Further ones are not told of for a minute.`,
      ),
    );
  }

  async #watch(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type === Events.Disconnect) this.#setUp(false);
      else if (status.type === Events.Reconnect) this.#setUp(true);
      else if (status.type === Events.Error && status.permissionContext !== undefined) {
        const { operation, subject } = status.permissionContext;
        if (operation === 'publish')
          for (const listener of this.#refusalListeners) listener(subject);
        this.#onProblem(forbidden(operation, subject));
      }
    }
  }

  #setUp(up: boolean): void {
    if (this.#up === up || this.#connection.isClosed()) return;
    this.#up = up;
    if (up) this.#epoch += 1;
    else for (const lost of this.#waiting) lost();
    for (const listener of this.#statusListeners) {
      try {
        listener(up);
      } catch (cause) {
        // One that fails must not end the watch: all others would never hear of the connection again.
        const message = `A change of the connection was not handled: ${messageOf(cause)}`;
        this.#onProblem(new MillraceError('UNAVAILABLE', message, { cause }));
      }
    }
  }
}

/** Throws USAGE for what is no prefix of subjects. */
function inboxPrefixOf({ role, inboxPrefix }: BusOptions): string | undefined {
  return inboxPrefix ?? (role === undefined ? undefined : inboxOf(role));
}

export function forbidden(operation: string, subject: string, cause?: unknown): MillraceError {
  const message = `NATS permissions forbid to ${operation === 'subscription' ? 'subscribe to' : 'publish on'} ${subject}.`;
  return new MillraceError('FORBIDDEN', message, cause === undefined ? {} : { cause });
}

async function connectionOptions(
  servers: string[],
  options: BusOptions,
): Promise<ConnectionOptions> {
  const urls = servers.map(parseServerUrl);
  const prefix = inboxPrefixOf(options);
  return {
    servers: urls.map(({ address }) => address),
    name: options.name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    timeout: CONNECT_TIMEOUT_MS,
    // The client builds a stack for every request, in case it fails: most of the time of a request goes there.
    noAsyncTraces: true,
    // Credentials are exchanged while workers run: a refusal is tried again like any other.
    ignoreAuthErrorAbort: true,
    ...(prefix === undefined ? {} : { inboxPrefix: prefix }),
    ...(await tlsFrom(urls, options.tls)),
    ...(await credentialsFrom(urls, options)),
  };
}

function shown(servers: readonly string[]): string {
  return servers.map(withoutPassword).join(', ');
}

function connectionFailed(servers: readonly string[], cause: unknown): MillraceError {
  const where = shown(servers);
  const code = (cause as { code?: string }).code ?? '';
  if (code === 'CONNECTION_REFUSED' || code === 'ECONNREFUSED') {
    return new MillraceError(
      'CONNECTION_FAILED',
      `No NATS server answers at ${where}: start one with "millrace dev", or name yours with --server.`,
      { cause },
    );
  }
  const untrusted = whyUntrusted(cause);
  if (untrusted !== undefined) {
    const message = `The TLS connection to NATS at ${where} is not safe: ${untrusted}.`;
    return new MillraceError('TLS_FAILED', message, { cause });
  }
  const message = `Connecting to NATS at ${where} failed: ${messageOf(cause)}.`;
  return new MillraceError('CONNECTION_FAILED', message, { cause });
}

function refused(subject: string, cause: Error): MillraceError {
  return new MillraceError(
    'UNAVAILABLE',
    `The subscription to ${subject} ended: ${cause.message}.`,
    {
      cause,
    },
  );
}
