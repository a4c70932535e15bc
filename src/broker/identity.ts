import { readFileSync } from 'node:fs';

/**
 * A process as a lock names it. A pid alone is not enough: after a restart of a container the same small number
 * belongs to somebody else. `started` tells them apart where /proc exists and is '' elsewhere.
 */
export interface ProcessIdentity {
  pid: number;
  started: string;
}

/** State and start time out of /proc/<pid>/stat; undefined where there is no such file. */
function statOf(pid: number): { state: string; started: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return { state: fields[0] ?? '', started: `${boot}/${fields[19] ?? ''}` };
  } catch {
    return undefined;
  }
}

export function identityOf(pid: number): ProcessIdentity {
  return { pid, started: statOf(pid)?.started ?? '' };
}

/** Whether that very process still runs; a zombie that its parent has not collected yet doesn't. */
export function isAlive({ pid, started }: ProcessIdentity): boolean {
  try {
    process.kill(pid, 0);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const stat = statOf(pid);
  if (stat === undefined) return true;
  return stat.state !== 'Z' && stat.state !== 'X' && (started === '' || started === stat.started);
}
