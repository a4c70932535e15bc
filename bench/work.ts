/** The work that every peer does: carry two numbers in 128 bytes of JSON, add them, carry the sum back. */
export interface SumRequest {
  readonly a: number;
  readonly b: number;
  readonly pad: string;
}

export interface SumReply {
  readonly sum: number;
}

export const PAYLOAD_BYTES = 128;
/** Operands keep this many digits, so that every payload has the same length. */
const OPERAND_MIN = 100_000;
const OPERAND_SPAN = 900_000;

const bare = JSON.stringify({ a: OPERAND_MIN, b: OPERAND_MIN, pad: '' } satisfies SumRequest);
const PAD = 'x'.repeat(PAYLOAD_BYTES - bare.length);

export function sumRequest(a: number, b: number): SumRequest {
  return { a, b, pad: PAD };
}

export function add(request: SumRequest): SumReply {
  return { sum: request.a + request.b };
}

/** The nth operand, in [100000, 999999]. */
export function operand(n: number): number {
  return OPERAND_MIN + (n % OPERAND_SPAN);
}
