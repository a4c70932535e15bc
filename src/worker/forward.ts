/** A plain request goes on to the worker that its function's key or balance chooses: one way more at most, because calls in frames stay. */
import type { Caller } from '../bus/caller.ts';
import { FRESH_HEADER } from '../bus/invoke.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { keyOfRequest } from '../function/key-of.ts';
import type { LoadedFunction } from '../function/load.ts';
import { eventOf, type Incoming } from './invocation.ts';
import { RUN_HEADER } from '../bus/run-traces.ts';
import { ID_HEADER, isReserved, SUBJECT_HEADER } from './reserved-headers.ts';

/** What a frame has room for. */
const MAX_HEADERS_BYTES = 32 * 1024;
/** Beyond the function's own timeout. */
const ANSWER_MARGIN_MS = 1_000;

export class Forwards {
  readonly #caller: Caller;
  readonly #settings: Settings;
  readonly #workerId: string;
  /** Requests that run elsewhere and are answered through this worker. */
  inFlight = 0;

  constructor(caller: Caller, settings: Settings, workerId: string) {
    this.#caller = caller;
    this.#settings = settings;
    this.#workerId = workerId;
  }

  /** False where it had best run here. */
  send(loaded: LoadedFunction, incoming: Incoming): boolean {
    // Its parts leave from where it runs.
    if (incoming.parts !== undefined) return false;
    const near = this.#chosen(loaded, incoming);
    if (near === undefined || near === this.#workerId) return false;
    const headers = headersOf(incoming);
    if (Buffer.byteLength(headers) > MAX_HEADERS_BYTES) return false;
    const { type, body, eventId, repeats } = incoming;
    const request = {
      functionName: loaded.name,
      encoded: { type, body },
      eventId: repeats === 'id' ? eventId : '',
      headers,
      timeoutMs: loaded.definition.timeoutMs + ANSWER_MARGIN_MS,
      // A plain request runs at most once, unless its id says that it may come again.
      retry: repeats === 'id',
      near,
    };
    this.inFlight += 1;
    this.#caller
      .call(request, (answer) => incoming.answer(answer))
      .catch((error: MillraceError) => incoming.fail(error))
      .finally(() => {
        this.inFlight -= 1;
      });
    return true;
  }

  /** The worker that had best run it: by the function's key, or its balance. Undefined where this one is as good as any. */
  #chosen({ name, definition }: LoadedFunction, incoming: Incoming): string | undefined {
    const { balancer, members, ownerOf } = this.#caller;
    const { balance, key: find } = definition;
    if (find === undefined) {
      return balance === DEFAULT_STRATEGY ? undefined : balancer.pick(name, performance.now());
    }
    const key = keyOfRequest(find, definition, incoming, this.#settings, (data) =>
      eventOf(incoming, data),
    );
    const owner = key === undefined ? undefined : ownerOf(key);
    return owner !== undefined && members.directory.runs(owner, name) ? owner : undefined;
  }
}

function headersOf({ headers, subject, eventId, repeats, fresh }: Incoming): string {
  const users = Object.entries(headers).filter(
    ([name]) => !isReserved(name) || name === RUN_HEADER,
  );
  return JSON.stringify({
    ...Object.fromEntries(users),
    [SUBJECT_HEADER]: subject,
    ...(repeats === 'id' ? {} : { [ID_HEADER]: eventId }),
    ...(fresh === true ? { [FRESH_HEADER]: '1' } : {}),
  });
}
