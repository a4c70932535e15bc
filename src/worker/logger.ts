import pino, { type Logger } from 'pino';
import { build as prettyStream } from 'pino-pretty';
import { MillraceError } from '../core/errors.ts';

/** JSON lines on standard output; readable ones where a person looks at a terminal. */
export function createLogger(level: string): Logger {
  if (level !== 'silent' && !(level in pino.levels.values)) {
    throw new MillraceError('USAGE', `There is no log level ${JSON.stringify(level)}.`);
  }
  if (!process.stdout.isTTY) return pino({ level });
  const pretty = prettyStream({
    ignore: 'pid,hostname,worker',
    translateTime: 'HH:MM:ss',
    sync: true,
    singleLine: true,
  });
  return pino({ level }, pretty);
}

/** What concerns no single invocation. A requester's mistake is no failure of this worker. */
export function logProblem(log: Logger, { code, message }: MillraceError): void {
  if (code === 'INVALID_INPUT') log.warn({ code }, message);
  else log.error({ code }, message);
}
