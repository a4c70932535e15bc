/**
 * Answers to calls that came in frames: those for one caller that are ready in the same turn of the event loop leave
 * in one message. While the connection is down they wait; there are at most as many as invocations were accepted.
 */
import type { Bus } from '../bus/connection.ts';
import {
  encodeReplies,
  packFrames,
  replySizeBytes,
  ReplyStatus,
  type OutgoingReply,
} from '../bus/frame.ts';
import type { MillraceError } from '../core/errors.ts';
import { ContentType, type Encoded } from '../core/payload.ts';
import type { Settings } from '../core/settings.ts';

const MAX_REPLIES_PER_FRAME = 1_024;

export class Replies {
  readonly #bus: Bus;
  readonly #maxFrameBytes: number;
  readonly #isIdle: () => boolean;
  readonly #byCaller = new Map<string, OutgoingReply[]>();
  readonly #stopListening: () => void;
  #flushScheduled = false;

  /** `isIdle` tells whether no invocation is unanswered just now. */
  constructor(bus: Bus, settings: Settings, isIdle: () => boolean) {
    this.#bus = bus;
    this.#isIdle = isIdle;
    this.#maxFrameBytes = settings.frameMaxBytes;
    this.#stopListening = bus.onStatus((up) => {
      if (up) this.flush();
    });
  }

  answer(caller: string, callId: number, encoded: Encoded): void {
    this.#add(caller, { callId, status: ReplyStatus.ok, encoded });
  }

  /** The answer comes in parts, and this is where to ask for them. */
  parts(caller: string, callId: number, control: string): void {
    const encoded = { type: ContentType.json, body: JSON.stringify(control) };
    this.#add(caller, { callId, status: ReplyStatus.parts, encoded });
  }

  fail(caller: string, callId: number, error: MillraceError): void {
    const body = encodeError(error);
    const encoded = { type: ContentType.json, body };
    this.#add(caller, { callId, status: ReplyStatus.error, encoded });
  }

  flush(): void {
    this.#flushScheduled = false;
    if (!this.#bus.up) return;
    for (const [caller, replies] of this.#byCaller) {
      this.#byCaller.delete(caller);
      try {
        this.#send(caller, replies);
      } catch {
        // The connection ended in this very turn: the callers notice, and ask again as their calls allow.
      }
    }
  }

  close(): void {
    this.#stopListening();
  }

  #add(caller: string, reply: OutgoingReply): void {
    const waiting = this.#byCaller.get(caller);
    if (waiting === undefined) this.#byCaller.set(caller, [reply]);
    else waiting.push(reply);
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    // With nothing else unanswered there is little to wait for: a frame's calls are still answered together.
    if (this.#isIdle()) queueMicrotask(() => this.flush());
    else setImmediate(() => this.flush());
  }

  #send(caller: string, replies: readonly OutgoingReply[]): void {
    const frames = packFrames(replies, replySizeBytes, MAX_REPLIES_PER_FRAME, this.#maxFrameBytes);
    for (const { items, sizeBytes } of frames) {
      this.#bus.answer(`${caller}.c.r`, encodeReplies(items, sizeBytes));
    }
  }
}

/** Beyond this the details of an error are left out, and its message is cut. */
const MAX_ERROR_BYTES = 32 * 1024;

/** The body of every failed answer: `{"error":{…}}`. Details that JSON can't hold, or too large ones, are left out. */
export function encodeError(error: MillraceError): string {
  const { code, message, retryable } = error;
  try {
    const text = JSON.stringify({ error: error.toBody() });
    if (text.length <= MAX_ERROR_BYTES) return text;
  } catch {
    // Said without the details, below.
  }
  return JSON.stringify({
    error: { code, message: message.slice(0, MAX_ERROR_BYTES / 8), retryable },
  });
}
