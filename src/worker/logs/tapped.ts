import pino, { type Logger } from 'pino';

/** What pino writes to. */
interface LineStream {
  write(line: string): void;
}

/** Lines of this logger and its children go through `through` before they are written. */
export function tapped(log: Logger, through: (line: string) => string): Logger {
  const { streamSym } = pino.symbols;
  const own = log as unknown as Record<symbol, LineStream>;
  const stream = own[streamSym] as LineStream;
  // What pino puts on its stream stays its own; what it calls there is the stream's.
  own[streamSym] = Object.assign(Object.create(stream) as LineStream, {
    write: (line: string) => stream.write(through(line)),
  });
  return log;
}
