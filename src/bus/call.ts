/** A call on its way, as the calling side keeps it. */
import type { CallEnd } from '../core/balance/balancer.ts';
import type { Track } from '../core/balance/track.ts';
import type { CallError, MillraceError } from '../core/errors.ts';
import type { ContentType, Encoded, EncodedBody } from '../core/payload.ts';
import { cancelled, notAllowed } from './call-errors.ts';
import type { Settings } from '../core/settings.ts';
import type { Subjects } from '../core/subjects.ts';
import { callSizeBytes, packFrames, type OutgoingCall } from './frame.ts';

export interface CallRequest {
  functionName: string;
  encoded: Encoded;
  /** The event's id; '' lets the receiver derive one. */
  eventId: string;
  /** JSON of the headers, '' for none. */
  headers: string;
  timeoutMs: number;
  /** May the call run again when its worker dies? */
  retry: boolean;
  /** May the answer come in parts? */
  parts?: boolean;
  signal?: AbortSignal | undefined;
  /** The worker that had best run it; another one where that one doesn't have the function, or is not there. */
  near?: string | undefined;
  /** It had best run where the state of this key lies. */
  key?: string | undefined;
  /** Does the answer say that the function has failed? */
  saysFailed?: (answer: CallAnswer) => boolean;
}

export interface CallAnswer {
  /** Of a frame: `ok`, or `parts`, where the caller takes them. */
  status?: number;
  type: ContentType;
  body: EncodedBody;
}

export interface Call extends OutgoingCall {
  readonly deadlineMs: number;
  readonly retry: boolean;
  readonly read: (answer: CallAnswer) => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: MillraceError) => void;
  /** The number under which it was sent last; 0 before. */
  wireId: number;
  workerId: string;
  /** What is known of the function there, where that counts. */
  track: Track | undefined;
  /** When the worker was chosen. */
  begunAtMs: number;
  /** While held: when to give up looking for a worker. */
  heldUntilMs: number;
  settled: boolean;
  /** Workers that died with it. */
  deaths: number;
  /** It was in flight when our connection broke: it, or its answer, may be lost. */
  suspect: boolean;
  /** Its worker was asked whether it still runs it. */
  asked: boolean;
  /** Workers that did not have the function any more when it reached them. */
  misses: number;
  readonly near: string | undefined;
  readonly key: string | undefined;
  readonly saysFailed: CallRequest['saysFailed'];
  /** Stops listening to the caller's signal. */
  unwatch: (() => void) | undefined;
}

export function newCall(
  request: CallRequest,
  read: (answer: CallAnswer) => unknown,
  resolve: (result: unknown) => void,
  reject: (error: MillraceError) => void,
): Call {
  return {
    functionName: request.functionName,
    encoded: request.encoded,
    attempt: 1,
    timeoutMs: request.timeoutMs,
    eventId: request.eventId,
    headers: request.headers,
    deadlineMs: performance.now() + request.timeoutMs,
    retry: request.retry,
    parts: request.parts ?? false,
    read,
    resolve,
    reject,
    wireId: 0,
    workerId: '',
    track: undefined,
    begunAtMs: 0,
    heldUntilMs: 0,
    settled: false,
    deaths: 0,
    suspect: false,
    asked: false,
    misses: 0,
    near: request.near,
    key: request.key,
    saysFailed: request.saysFailed,
    unwatch: undefined,
  };
}

/** Cancels the call when its caller's signal says so, until it is settled. */
export function watchSignal(
  call: Call,
  signal: AbortSignal | undefined,
  cancel: (why: MillraceError) => void,
): void {
  if (signal === undefined) return;
  const onAbort = (): void => cancel(cancelled(call.functionName, signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  call.unwatch = () => signal.removeEventListener('abort', onAbort);
}

/** Settles the call with what its caller makes of the answer. */
export function deliver(call: Call, answer: CallAnswer): void {
  try {
    call.resolve(call.read(answer));
  } catch (error) {
    call.reject(error as MillraceError);
  }
}

/** What names this caller: an event without an id is called `<token>-<number of its call>` on both sides. */
export function inboxToken(inbox: string): string {
  return inbox.slice(inbox.lastIndexOf('.') + 1);
}

/** Of failures that its worker or function is to blame for, others do not count against the worker. */
export function endOf({ code }: MillraceError): CallEnd {
  return code === 'FUNCTION_FAILED' || code === 'TIMEOUT' ? 'failed' : 'unknown';
}

function byFunction(calls: readonly Call[]): Call[][] {
  const groups = new Map<string, Call[]>();
  for (const call of calls) {
    const group = groups.get(call.functionName);
    if (group === undefined) groups.set(call.functionName, [call]);
    else group.push(call);
  }
  return [...groups.values()];
}

/** Calls of one worker in frames; from `outside` each has calls of one function, because permissions go by function. */
export function framesOf(calls: readonly Call[], settings: Settings, outside: boolean) {
  const { frameMaxCalls, frameMaxBytes } = settings;
  const groups = outside ? byFunction(calls) : [calls];
  return groups.flatMap((group) => packFrames(group, callSizeBytes, frameMaxCalls, frameMaxBytes));
}

/** Where a frame for the worker goes. */
export function callSubject(
  subjects: Subjects,
  workerId: string,
  calls: readonly OutgoingCall[],
  outside: boolean,
): string {
  const [first] = outside ? calls : [];
  if (first === undefined) return subjects.workerCall(workerId);
  return subjects.workerAsk(workerId, first.functionName);
}

/** Those that NATS permissions have let nothing of through, by the subject that they forbid. */
export function failRefused(
  subject: string,
  sent: Iterable<Call>,
  subjects: Subjects,
  fail: (call: Call, why: CallError) => void,
): void {
  for (const call of sent) {
    if (subject === callSubject(subjects, call.workerId, [call], true))
      fail(call, notAllowed(call.functionName));
  }
}
