import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The environment variable with the folder in which the processes that tests start are noted. */
export const PID_DIRECTORY = 'MILLRACE_TEST_PIDS';

/** Whatever is noted must be gone at the end of the run; see global-setup.ts. */
export function notePid(pid: number | undefined): void {
  const directory = process.env[PID_DIRECTORY];
  if (directory !== undefined && pid !== undefined) writeFileSync(join(directory, `${pid}`), '');
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
