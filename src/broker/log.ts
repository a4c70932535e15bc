import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
} from 'node:fs';
import { join } from 'node:path';

const POLL_MS = 100;
const CHUNK_BYTES = 64 * 1024;
/** The file is emptied when it gets longer: a broker that runs for months must not fill the disk with its log. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;
const MAX_LINE_CHARS = 16 * 1024;

/**
 * The server's output, in `<storeDir>/broker.log` (the run before: `broker.log.1`). A file and no pipe: Go ends a
 * program that writes to a broken pipe, so a server whose parent was killed would die instead of shutting down.
 */
export interface BrokerLog {
  readonly path: string;
  /** For the server's stdout and stderr. */
  readonly fd: number;
  /** The last line worth showing: a fatal or error one if there is any. */
  lastLine(): string;
  /** Reads what is left and stops following. */
  close(): void;
}

export function openLog(storeDir: string, onLog: (line: string) => void = () => {}): BrokerLog {
  const path = join(storeDir, 'broker.log');
  if (existsSync(path)) renameSync(path, `${path}.1`);
  const fd = openSync(path, 'a+', 0o644);
  const chunk = Buffer.alloc(CHUNK_BYTES);
  const decoder = new TextDecoder();
  let offset = 0;
  let rest = '';
  let last = '';
  let lastError = '';

  const take = (line: string) => {
    if (line === '') return;
    last = line;
    if (/\[(FTL|ERR)\]|^nats-server: /.test(line)) lastError = line;
    onLog(line);
  };

  const readOn = () => {
    for (;;) {
      const bytes = readSync(fd, chunk, 0, CHUNK_BYTES, offset);
      if (bytes === 0) break;
      offset += bytes;
      const lines = (rest + decoder.decode(chunk.subarray(0, bytes), { stream: true })).split('\n');
      rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARS);
      lines.forEach(take);
    }
    // The server appends, so it goes on at the file's new beginning.
    if (offset > MAX_LOG_BYTES && fstatSync(fd).size === offset) {
      ftruncateSync(fd, 0);
      offset = 0;
    }
  };

  const timer = setInterval(readOn, POLL_MS).unref();
  let open = true;
  return {
    path,
    fd,
    lastLine: () => {
      if (open) readOn();
      return lastError || last;
    },
    close() {
      if (!open) return;
      clearInterval(timer);
      readOn();
      take(rest);
      open = false;
      closeSync(fd);
    },
  };
}

/** `[812] 2026/01/31 10:11:12.131415 [FTL] text` without what a reader of one line doesn't need. */
export function bareLine(line: string): string {
  return line.replace(/^\[\d+\] \S+ \S+ \[[A-Z]{3}\] /, '').replace(/\.$/, '');
}
