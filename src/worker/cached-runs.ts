/** Runs whose answers may be known on this worker already: what callers without a cache of their own ask again and again. */
import { timedOut } from '../bus/call-errors.ts';
import type { Answers } from '../cache/answers.ts';
import { inputKey, ownKey } from '../cache/keys.ts';
import type { Answer } from '../core/answer-cache.ts';
import type { PayloadLimits } from '../core/payload.ts';
import { keyOfRequest } from '../function/key-of.ts';
import type { LoadedFunction } from '../function/load.ts';
import { eventOf, type Incoming } from './invocation.ts';

/** No caller is called so: a call that comes again must not be taken for one that runs for others. */
const CALLER = '=cache';

/** False where the answer is not to be kept: then it is run as any other. */
export function runCached(
  answers: Answers,
  loaded: LoadedFunction,
  incoming: Incoming,
  limits: PayloadLimits,
  run: (incoming: Incoming) => void,
): boolean {
  const { cache, timeoutMs } = loaded.definition;
  const { joined, delivery, repeats, fresh } = incoming;
  // Of a transaction, an event or a request that says that it is to be made.
  const meant = repeats === 'id' || fresh === true;
  if (cache === undefined || joined !== undefined || delivery !== undefined || meant) return false;
  const key = keyOf(loaded, incoming, limits);
  if (key === undefined) return false;
  const untilMs = performance.now() + Math.min(incoming.timeoutMs ?? timeoutMs, timeoutMs);
  const ask = (): void => {
    let own = false;
    const found = answers.of(loaded.name, cache).get(key, () => {
      own = true;
      const leftMs = untilMs - performance.now();
      return new Promise<Answer>((resolve) => {
        run({
          ...incoming,
          timeoutMs: leftMs,
          caller: CALLER,
          answer: (encoded) => resolve({ encoded }),
          fail: (error) => resolve({ error }),
        });
      });
    });
    const give = (answer: Answer): void => {
      if ('encoded' in answer) incoming.answer(answer.encoded);
      else if (own || answer.error.code !== 'TIMEOUT') incoming.fail(answer.error);
      // Somebody else's had less time.
      else if (performance.now() < untilMs) ask();
      else incoming.fail(timedOut(loaded.name, false));
    };
    if (found instanceof Promise) void found.then(give);
    else give(found);
  };
  ask();
  return true;
}

/** Undefined where it cannot be found. */
function keyOf(
  { definition }: LoadedFunction,
  incoming: Incoming,
  limits: PayloadLimits,
): string | undefined {
  const { type, body, subject } = incoming;
  const find = definition.cache?.key;
  // A handler may look at the subject.
  if (find === undefined) return `${subject} ${inputKey(type, body)}`;
  const key = keyOfRequest(find, definition, { type, body }, limits, (data) =>
    eventOf(incoming, data),
  );
  return key === undefined ? undefined : ownKey(type, key);
}
