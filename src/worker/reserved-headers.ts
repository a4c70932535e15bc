/** Headers that begin with `Millrace-` are the platform's own: they say in a frame what it has no place for. */
import { UNTRACED_HEADER } from '../bus/frame.ts';
import { FRESH_HEADER, TRANSACTION_HEADER } from '../bus/invoke.ts';
import { RUN_HEADER } from '../bus/run-traces.ts';

/** Of a plain request that was handed on: the subject that it came in on. */
export const SUBJECT_HEADER = 'Millrace-Subject';
/** Likewise its event's id, where that does not say that the request may come again. */
export const ID_HEADER = 'Millrace-Id';
/** Of a plain request that is to be answered in parts. */
export const PARTS_HEADER = 'Millrace-Stream';

const OF_CALLS = new Set([
  FRESH_HEADER,
  TRANSACTION_HEADER,
  SUBJECT_HEADER,
  ID_HEADER,
  UNTRACED_HEADER,
  RUN_HEADER,
]);
const RESERVED = /^millrace-/i;

export function isOfCalls(name: string): boolean {
  return OF_CALLS.has(name);
}

export function isReserved(name: string): boolean {
  return RESERVED.test(name);
}
