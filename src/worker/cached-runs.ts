/** Runs whose answers may be known on this worker already: what callers without a cache of their own ask again and again. */
import { FRESH_HEADER } from '../bus/invoke.ts';
import type { Answers } from '../cache/answers.ts';
import { inputKey, ownKey } from '../cache/keys.ts';
import type { Answer } from '../core/answer-cache.ts';
import type { PayloadLimits } from '../core/payload.ts';
import type { LoadedFunction } from '../function/load.ts';
import { findKey } from './find-key.ts';
import type { Incoming } from './invocation.ts';

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
  const { cache } = loaded.definition;
  const { joined, delivery, repeats, headers } = incoming;
  // Of a transaction, an event or a request that says that it is to be made.
  const meant = repeats === 'id' || headers[FRESH_HEADER] !== undefined;
  if (cache === undefined || joined !== undefined || delivery !== undefined || meant) return false;
  const key = keyOf(loaded, incoming, limits);
  if (key === undefined) return false;
  let own = false;
  const found = answers.of(loaded.name, cache).get(key, () => {
    own = true;
    return new Promise<Answer>((resolve) => {
      run({
        ...incoming,
        caller: CALLER,
        answer: (encoded) => resolve({ encoded }),
        fail: (error) => resolve({ error }),
      });
    });
  });
  if (!(found instanceof Promise)) give(incoming, found);
  else {
    void found.then((answer) => {
      // Somebody else's had less time.
      const late = !own && 'error' in answer && answer.error.code === 'TIMEOUT';
      if (late) run(incoming);
      else give(incoming, answer);
    });
  }
  return true;
}

function give(incoming: Incoming, answer: Answer): void {
  if ('encoded' in answer) incoming.answer(answer.encoded);
  else incoming.fail(answer.error);
}

/** Undefined where it cannot be found. */
function keyOf(
  loaded: LoadedFunction,
  incoming: Incoming,
  limits: PayloadLimits,
): string | undefined {
  const find = loaded.definition.cache?.key;
  if (find === undefined) return inputKey(incoming.type, incoming.body);
  const key = findKey(find, loaded, incoming, limits);
  return key === undefined ? undefined : ownKey(incoming.type, key);
}
