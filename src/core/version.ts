/** The oldest nats-server whose fences hold on replicated streams; 2.9 acknowledges several writers that expect the same sequence. */
export const MINIMUM_SERVER_VERSION = '2.14.0';
/** From here on fences go by the leader's term, too; older ones have known faults with several replicas. */
export const RECOMMENDED_SERVER_VERSION = '2.14.4';

interface Version {
  numbers: [major: number, minor: number, patch: number];
  /** The identifiers of `-RC.1`; empty for a release. */
  prerelease: string[];
}

const VERSION =
  /^v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/;

function parseVersion(text: string): Version | undefined {
  const match = VERSION.exec(text.trim());
  if (match === null) return undefined;
  const [, major, minor, patch, prerelease] = match;
  return {
    numbers: [Number(major), Number(minor), Number(patch ?? 0)],
    prerelease: prerelease === undefined ? [] : prerelease.split('.'),
  };
}

function compareIdentifiers(a: string, b: string): number {
  const numeric = [a, b].map((text) => /^\d+$/.test(text));
  if (numeric[0] && numeric[1]) return Number(a) - Number(b);
  if (numeric[0] !== numeric[1]) return numeric[0] ? -1 : 1;
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function comparePrereleases(a: string[], b: string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const order = compareIdentifiers(a[i] ?? '', b[i] ?? '');
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/**
 * The order of semver.org §11, as -1, 0 or 1: 2.14.0-RC.1 is older than 2.14.0, `v` and `+build` don't matter.
 * What is no version is older than every version.
 */
export function compareVersions(a: string, b: string): -1 | 0 | 1 {
  const [left, right] = [parseVersion(a), parseVersion(b)];
  if (left === undefined || right === undefined) {
    return left === right ? 0 : left === undefined ? -1 : 1;
  }
  for (const part of [0, 1, 2] as const) {
    const order = left.numbers[part] - right.numbers[part];
    if (order !== 0) return order < 0 ? -1 : 1;
  }
  return Math.sign(comparePrereleases(left.prerelease, right.prerelease)) as -1 | 0 | 1;
}

export function isAtLeast(version: string, minimum: string): boolean {
  return parseVersion(version) !== undefined && compareVersions(version, minimum) >= 0;
}
