import type { Bus } from '../bus/connection.ts';
import { MillraceError, isErrorCode } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import type { Inspection } from './client.ts';

/** Beside the worker's own wait for silent workers: the way there and back. */
const MARGIN_MS = 2_000;

/** Asks `<namespace>.inspect.<what>`; rejects with the answered error, UNAVAILABLE or TIMEOUT. */
export async function inspect(
  bus: Bus,
  settings: Settings,
  what: string,
  question?: object,
): Promise<unknown> {
  const payload = question === undefined ? '' : JSON.stringify(question);
  const message = await bus
    .request(
      subjectsOf(settings.namespace).inspect(what),
      Buffer.from(payload),
      settings.inspectTimeoutMs + MARGIN_MS,
    )
    .catch((cause: unknown) => {
      throw nobodyAnswers(settings.namespace, cause as MillraceError);
    });
  const answer = message.json<{ error?: { code: string; message: string } }>();
  if (message.headers?.get('Nats-Service-Error-Code') && answer.error !== undefined) {
    const { code, message: text } = answer.error;
    throw new MillraceError(isErrorCode(code) ? code : 'UNAVAILABLE', text);
  }
  return answer;
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
