import type { Msg } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { MillraceError, isErrorCode } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Inspection } from './client.ts';

/** Beside the worker's own wait for silent workers: the way there and back. */
const MARGIN_MS = 700;
/** A worker that dies with the question is not noticed by the broker at once; asking again does no harm. */
const ATTEMPTS = 3;

/** Asks `<namespace>.inspect.<what>`; rejects with the answered error, UNAVAILABLE or TIMEOUT. */
export async function inspect(
  bus: Bus,
  settings: Settings,
  what: string,
  question?: object,
): Promise<unknown> {
  const payload = question === undefined ? '' : JSON.stringify(question);
  const subject = subjectsOf(settings.namespace).inspect(what);
  const timeoutMs = settings.inspectTimeoutMs + MARGIN_MS;
  const message = await askAgain(() => bus.request(subject, Buffer.from(payload), timeoutMs)).catch(
    (cause: unknown) => {
      throw nobodyAnswers(settings.namespace, cause as MillraceError);
    },
  );
  const answer = message.json<{ error?: { code: string; message: string } }>();
  if (message.headers?.get('Nats-Service-Error-Code') && answer.error !== undefined) {
    const { code, message: text } = answer.error;
    throw new MillraceError(isErrorCode(code) ? code : 'UNAVAILABLE', text);
  }
  return answer;
}

async function askAgain(ask: () => Promise<Msg>, attempt = 1): Promise<Msg> {
  try {
    return await ask();
  } catch (error) {
    if ((error as MillraceError).code !== 'TIMEOUT' || attempt >= ATTEMPTS) throw error;
    return askAgain(ask, attempt + 1);
  }
}

function nobodyAnswers(namespace: string, cause: MillraceError): MillraceError {
  if (cause.code !== 'UNAVAILABLE') return cause;
  return new MillraceError('UNAVAILABLE', `No worker of namespace ${namespace} is running.`, {
    cause,
  });
}

export function inspectThrough(bus: Bus, settings: Settings): Inspection {
  const ask = async <Answer>(what: string): Promise<Answer> =>
    (await inspect(bus, settings, what)) as Answer;
  return {
    workers: async () => (await ask<{ workers: never }>('workers')).workers,
    functions: async () => (await ask<{ functions: never }>('functions')).functions,
  };
}
