/** Changes of one character that turn `a` into `b`, an exchange of neighbours counting as one. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i += 1) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const differs = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + differs);
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, at(i - 2, j - 2) + 1);
      rows[i]?.push(best);
    }
  }
  return at(a.length, b.length);
}

/** Longer words are no typing mistakes; also bounds the work. */
const MAX_CHARACTERS = 40;

/** The candidate that was probably meant, ignoring case, or undefined when none is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > MAX_CHARACTERS) return undefined;
  const ranked = candidates
    .map((candidate) => ({
      candidate,
      changes: distance(word.toLowerCase(), candidate.toLowerCase()),
    }))
    .sort((a, b) => a.changes - b.changes);
  const [best] = ranked;
  if (best === undefined) return undefined;
  const shorter = Math.min(word.length, best.candidate.length);
  return best.changes <= Math.max(1, Math.floor(shorter / 2)) ? best.candidate : undefined;
}
