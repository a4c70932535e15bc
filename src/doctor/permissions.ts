/**
 * Whether this user may do what workers do. Each question is one that the server answers if it is allowed, and that changes
 * nothing: a stream that is to be made under another name than its own, a purge of a subject that nothing lies on.
 */
import { nuid } from 'nats';
import type { Bus } from '../bus/connection.ts';
import { writeControl } from '../bus/messages.ts';
import { NO_RESPONDERS } from '../bus/connection.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { fail, ok, type Check } from './checks.ts';

const ANSWER_MS = 2_000;

/** JetStream's requests that workers make, on the platform's stream of logs as on all of them. */
function questions({ namespace }: Settings): [subject: string, request: object][] {
  const stream = `${namespace}-log`;
  const nothing = subjectsOf(namespace).log('doctor');
  return [
    ['INFO', {}],
    ['STREAM.NAMES', { subject: nothing }],
    [`STREAM.INFO.${stream}`, {}],
    [`STREAM.CREATE.${stream}`, { name: 'another' }],
    [`STREAM.UPDATE.${stream}`, { name: 'another' }],
    [`STREAM.MSG.GET.${stream}`, { last_by_subj: nothing }],
    [`STREAM.PURGE.${stream}`, { filter: nothing, seq: 2 }],
    [`CONSUMER.CREATE.${stream}`, { stream_name: 'another' }],
  ];
}

export async function examinePermissions(bus: Bus, settings: Settings): Promise<Check> {
  const name = 'permissions';
  const asked = await Promise.all([
    ...questions(settings).map(async ([what, request]) => may(bus, `$JS.API.${what}`, request)),
    hears(bus, subjectsOf(settings.namespace).fn(`doctor-${nuid.next()}`)),
  ]);
  const refused = asked.filter((each) => each !== undefined);
  if (refused.length === 0) return ok(name, 'what workers need is allowed');
  return fail(
    name,
    `not allowed or not answered: ${refused.join('; ')}`,
    `Give the user of workers these: publish and subscribe ${settings.namespace}.>, _INBOX.>, $JS.API.>, $KV.>, $O.>, $SRV.>, and the subjects of its functions.`,
  );
}

/** What is wrong; undefined where the server has answered, whatever. */
async function may(bus: Bus, subject: string, request: object): Promise<string | undefined> {
  try {
    await bus.request(subject, writeControl(request), ANSWER_MS);
    return undefined;
  } catch (error) {
    // Nobody is there to answer, but it was allowed to ask.
    if ((error as MillraceError).details === NO_RESPONDERS) return undefined;
    return `${subject} (${messageOf(error)})`;
  }
}

/** Whether what is published on the subject comes back. */
async function hears(bus: Bus, subject: string): Promise<string | undefined> {
  let heard: () => void = () => {};
  const coming = new Promise<boolean>((resolve) => {
    heard = () => resolve(true);
    setTimeout(() => resolve(false), ANSWER_MS).unref();
  });
  const subscription = bus.subscribe(subject, () => heard());
  bus.publish(subject, new Uint8Array());
  const came = await coming;
  subscription.unsubscribe();
  return came ? undefined : `publish and subscribe ${subject}`;
}
