/** Asks the gateway. The key stays in this tab: in memory and in `sessionStorage`, and never in an address. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export interface Identity {
  /** Of the key; null where the gateway has none. */
  name: string | null;
  can: { inspect: boolean; operate: boolean };
  namespace: string;
  version: string;
}

const STORED = 'millrace-key';

export const key = {
  get: (): string => sessionStorage.getItem(STORED) ?? '',
  set(value: string): void {
    if (value === '') sessionStorage.removeItem(STORED);
    else sessionStorage.setItem(STORED, value);
  },
};

/** Throws ApiError; with the code OFFLINE where the gateway does not answer. */
export async function ask<Answer>(
  path: string,
  { method = 'GET', signal }: { method?: string; signal?: AbortSignal } = {},
): Promise<Answer> {
  const given = key.get();
  const response = await fetch(`../api/${path}`, {
    method,
    headers: given === '' ? {} : { Authorization: `Bearer ${given}` },
    cache: 'no-store',
    credentials: 'omit',
    ...(signal === undefined ? {} : { signal }),
  }).catch((cause: unknown) => {
    if (signal?.aborted === true) throw cause;
    throw new ApiError('OFFLINE', 'The gateway does not answer.', 0);
  });
  const body = (await response.json().catch(() => ({}))) as Answer & {
    error?: { code: string; message: string };
  };
  if (response.ok) return body;
  const { code = 'UNAVAILABLE', message = `The gateway answered ${response.status}.` } =
    body.error ?? {};
  throw new ApiError(code, message, response.status);
}

export function messageOf(error: unknown): string {
  return error instanceof ApiError ? `${error.message} (${error.code})` : String(error);
}

/** One part of a path. */
export function part(text: string): string {
  return encodeURIComponent(text);
}
