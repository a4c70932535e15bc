/** A plain request goes on to the worker that its function's key or balance chooses: one way more at most, because calls in frames stay. */
import type { Caller } from '../bus/caller.ts';
import { DEFAULT_STRATEGY } from '../core/balance/strategy.ts';
import type { MillraceError } from '../core/errors.ts';
import type { PayloadLimits } from '../core/payload.ts';
import type { LoadedFunction } from '../function/load.ts';
import { findKey } from './find-key.ts';
import type { Incoming } from './invocation.ts';

/** In the headers of a call in a frame: the subject that the event came in on. Headers that begin so are not for users. */
export const SUBJECT_HEADER = 'Millrace-Subject';
const RESERVED = /^millrace-/i;
/** What a frame has room for. */
const MAX_HEADERS_BYTES = 32 * 1024;
/** Beyond the function's own timeout. */
const ANSWER_MARGIN_MS = 1_000;

/** The worker that had best run it: by the function's key, or its balance. Undefined where this one is as good as any. */
export function chosenFor(
  loaded: LoadedFunction,
  incoming: Incoming,
  { balancer, members, ownerOf }: Caller,
  limits: PayloadLimits,
): string | undefined {
  const { name, definition } = loaded;
  const { balance, key: find } = definition;
  if (find === undefined) {
    return balance === DEFAULT_STRATEGY ? undefined : balancer.pick(name, performance.now());
  }
  const key = findKey(find, loaded, incoming, limits);
  const owner = key === undefined ? undefined : ownerOf(key);
  return owner !== undefined && members.directory.runs(owner, name) ? owner : undefined;
}

/** False where it is not to go on: then it runs here. */
export function forward(
  caller: Caller,
  { name: functionName, definition: { timeoutMs } }: LoadedFunction,
  incoming: Incoming,
  near: string,
): boolean {
  const { subject, type, body, eventId, repeats } = incoming;
  const headers = JSON.stringify({ ...usersOf(incoming.headers), [SUBJECT_HEADER]: subject });
  if (Buffer.byteLength(headers) > MAX_HEADERS_BYTES) return false;
  caller
    .call(
      {
        functionName,
        encoded: { type, body },
        // One that the worker has made up would say there that the request may come again.
        eventId: repeats === 'id' ? eventId : '',
        headers,
        timeoutMs: timeoutMs + ANSWER_MARGIN_MS,
        // A plain request runs at most once, unless its id says that it may come again.
        retry: repeats === 'id',
        near,
      },
      (answer) => incoming.answer(answer),
    )
    .catch((error: MillraceError) => incoming.fail(error));
  return true;
}

function usersOf(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !RESERVED.test(name)));
}
