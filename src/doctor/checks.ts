/** What is found, in words that a person can act on. */

/** `unknown`: it could not be learnt, and the finding says how it can. */
export type CheckResult = 'ok' | 'warn' | 'fail' | 'unknown';

export interface Check {
  /** What is looked at. */
  name: string;
  result: CheckResult;
  /** One sentence, or less. */
  finding: string;
  /** What to do about it: one sentence. */
  remedy?: string;
}

export function ok(name: string, finding: string): Check {
  return { name, result: 'ok', finding };
}

export function warn(name: string, finding: string, remedy: string): Check {
  return { name, result: 'warn', finding, remedy };
}

export function fail(name: string, finding: string, remedy: string): Check {
  return { name, result: 'fail', finding, remedy };
}

export function unknown(name: string, finding: string, remedy?: string): Check {
  return remedy === undefined
    ? { name, result: 'unknown', finding }
    : { name, result: 'unknown', finding, remedy };
}

const MIB = 1024 * 1024;

/** For people. */
export function bytesText(bytes: number): string {
  if (bytes < MIB) return `${Math.ceil(bytes / 1024)} KiB`;
  const mib = bytes / MIB;
  return mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}
