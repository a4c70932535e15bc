/**
 * The one registry of everything millrace refuses or fails with.
 *
 * `status` has HTTP's meaning and travels in the header `Nats-Service-Error-Code`; 0 marks errors that never
 * cross the wire (start-up and command line). `retryable` is the default for the code: the same request may
 * succeed later without being changed. docs/errors.md lists the same rows; a test holds the two together.
 */
export const ERROR_REGISTRY = {
  INVALID_INPUT: { status: 400, retryable: false },
  UNAUTHORIZED: { status: 401, retryable: false },
  FORBIDDEN: { status: 403, retryable: false },
  UNKNOWN_FUNCTION: { status: 404, retryable: false },
  NOT_FOUND: { status: 404, retryable: false },
  TRANSACTION_CONFLICT: { status: 409, retryable: true },
  DEPLOY_CONFLICT: { status: 409, retryable: false },
  NOT_EMPTY: { status: 409, retryable: false },
  PAYLOAD_TOO_LARGE: { status: 413, retryable: false },
  RATE_LIMITED: { status: 429, retryable: true },
  CANCELLED: { status: 499, retryable: false },
  FUNCTION_FAILED: { status: 500, retryable: false },
  STATE_FULL: { status: 507, retryable: false },
  UNAVAILABLE: { status: 503, retryable: true },
  TIMEOUT: { status: 504, retryable: true },
  NOT_SUPPORTED: { status: 501, retryable: false },
  INVALID_DEFINITION: { status: 0, retryable: false },
  FUNCTION_LOAD_FAILED: { status: 0, retryable: false },
  TLS_FAILED: { status: 0, retryable: false },
  CONNECTION_FAILED: { status: 0, retryable: true },
  BROKER_NOT_FOUND: { status: 0, retryable: false },
  BROKER_TOO_OLD: { status: 0, retryable: false },
  BROKER_PORT_BUSY: { status: 0, retryable: false },
  BROKER_STORE_UNWRITABLE: { status: 0, retryable: false },
  BROKER_FAILED: { status: 0, retryable: true },
  STREAM_UNUSABLE: { status: 0, retryable: false },
  BACKUP_UNREADABLE: { status: 0, retryable: false },
  RESTORE_UNFINISHED: { status: 0, retryable: false },
  NEWER_VERSION: { status: 0, retryable: false },
  INVARIANT_BROKEN: { status: 0, retryable: false },
  USAGE: { status: 0, retryable: false },
} as const satisfies Record<string, { status: number; retryable: boolean }>;

export type ErrorCode = keyof typeof ERROR_REGISTRY;

export interface ErrorOptions {
  /** Overrides the code's default: may the same request succeed later, unchanged? */
  retryable?: boolean;
  /** JSON-serialisable facts for the caller: validation issues, the key concerned, the limit that was hit. */
  details?: unknown;
  cause?: unknown;
}

/** Body of a failed answer: `{"error":{…}}`, see docs/errors.md. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  retryable: boolean;
  details?: unknown;
}

/** The base of every error that millrace throws or answers with. */
export class MillraceError extends Error {
  override readonly name = 'MillraceError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly details: unknown;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? ERROR_REGISTRY[code].retryable;
    this.details = options.details;
  }

  /** HTTP's meaning of the code; 0 for errors that never cross the wire. */
  get status(): number {
    return ERROR_REGISTRY[this.code].status;
  }

  toBody(): ErrorBody {
    const { code, message, retryable, details } = this;
    return details === undefined
      ? { code, message, retryable }
      : { code, message, retryable, details };
  }
}

/** A call to another function failed: what `invoke` rejects with, at the client and in a handler's context. */
export class CallError extends MillraceError {
  readonly functionName: string;

  constructor(functionName: string, code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(code, message, options);
    this.functionName = functionName;
  }
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(ERROR_REGISTRY, code);
}

/** Characters of a message that came from anywhere else: it travels in answers and headers. */
const MAX_MESSAGE_LENGTH = 2_000;

/** The text of anything that was thrown, an Error or not; never throws itself, whatever its getters do. */
export function messageOf(thrown: unknown): string {
  try {
    const text = String(thrown instanceof Error ? (thrown.message as unknown) : thrown);
    return text.length <= MAX_MESSAGE_LENGTH ? text : `${text.slice(0, MAX_MESSAGE_LENGTH)}…`;
  } catch {
    return 'a value that cannot be shown as text was thrown';
  }
}
