import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, MillraceError } from '../core/errors.ts';

const STOP_TIMEOUT_MS = 5_000;

/**
 * Run by sh before it becomes the server (`exec`, so the child's pid is the server's). It leaves a guard behind
 * that reads a pipe whose other end only this process holds: at its end, however we died, the server is told to
 * terminate and, five seconds later, killed. The pipe goes by as descriptor 3 because sh gives background jobs an
 * empty stdin. The guard is a member of the server's process group: while it lives, no other process can get the
 * server's pid, so its signals never hit a stranger.
 */
const GUARD = `
exec 3<&0 </dev/null
(
  IFS= read -r _ <&3
  kill -TERM $$ || exit 0
  n=0
  while [ $n -lt 5 ] && sleep 1 && kill -0 $$; do n=$((n+1)); done
  kill -KILL $$
) >/dev/null 2>&1 &
exec "$0" "$@" 3<&-
`;

export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** True when nobody called stop(). */
  unexpected: boolean;
}

export interface GuardedProcess {
  readonly pid: number;
  readonly exited: Promise<ExitStatus>;
  /** Undefined while it runs. */
  readonly status: () => ExitStatus | undefined;
  /** SIGTERM, and SIGKILL after five seconds; resolves when the process has ended. */
  readonly stop: () => Promise<void>;
}

/**
 * Starts a program that ends when we end. It gets a session of its own, so that Ctrl-C reaches us alone and we
 * decide the order of going down. `onExit` runs before `exited` resolves.
 */
export async function startGuarded(
  command: readonly [path: string, ...args: string[]],
  options: {
    cwd?: string | undefined;
    env: NodeJS.ProcessEnv;
    outputFd: number;
    onExit: () => Promise<void>;
  },
): Promise<GuardedProcess> {
  const [path, ...args] =
    process.platform === 'win32' ? command : (['sh', '-c', GUARD, ...command] as const);
  const child = spawn(path, args, {
    detached: true,
    cwd: options.cwd,
    env: options.env,
    stdio: ['pipe', options.outputFd, options.outputFd],
    windowsHide: true,
  });
  // Of the pipe (the guard may be gone before it is closed) and of a signal that cannot be sent.
  child.stdin?.on('error', () => {});
  child.on('error', () => {});
  let stopping = false;
  let status: ExitStatus | undefined;
  const exited = new Promise<ExitStatus>((resolve) => {
    child.once('exit', (code, signal) => {
      const final = { code, signal, unexpected: !stopping };
      status = final;
      child.stdin?.destroy();
      // What cannot be cleaned up now (the lock) is stale from now on, and taken over by the next start.
      void options.onExit().then(
        () => resolve(final),
        () => resolve(final),
      );
    });
  });
  try {
    await once(child, 'spawn');
  } catch (thrown) {
    const message = `The broker could not be started (${messageOf(thrown)}); check that sh is on the PATH.`;
    throw new MillraceError('BROKER_FAILED', message, { cause: thrown });
  }
  const { pid } = child;
  if (pid === undefined) throw new Error('a spawned process has a pid');

  let stopped: Promise<void> | undefined;
  const stopOnce = async () => {
    if (status === undefined) stopping = true;
    child.kill('SIGTERM');
    const waiting = new AbortController();
    const impatient = delay(STOP_TIMEOUT_MS, undefined, { signal: waiting.signal }).then(
      () => child.kill('SIGKILL'),
      () => false,
    );
    await exited;
    waiting.abort();
    await impatient;
  };
  return { pid, exited, status: () => status, stop: () => (stopped ??= stopOnce()) };
}
