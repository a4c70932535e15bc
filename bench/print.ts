/** The only way out: the tables go to standard output, progress and complaints to standard error. */
export function print(line = ''): void {
  process.stdout.write(`${line}\n`);
}

export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}
