/** What the parent says to a child over IPC, what the child answers, and what a peer's file exports. */
export type Role = 'caller' | 'worker';

export interface Caller {
  /** Asks the worker for a + b; rejects when there is no answer. */
  call(a: number, b: number): Promise<number>;
  close(): Promise<void>;
}

export interface Worker {
  /** CPU the worker has used so far, when that is not the child's own (the worker is a process of its own). */
  cpuMs?(): number;
  close(): Promise<void>;
}

export interface Peer {
  startWorker(url: string): Promise<Worker>;
  startCaller(url: string): Promise<Caller>;
}

export interface Load {
  readonly concurrency: number;
  readonly seconds: number;
}

export interface Measured {
  readonly calls: number;
  readonly errors: number;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** User and system time of the caller's process. */
  readonly cpuMs: number;
  readonly firstError?: string;
}

/** Each command has one answer, or a `failed`. */
export interface Commands {
  /** The caller repeats one call until it succeeds: the worker is reachable. */
  reach: { argument: { withinMs: number }; result: null };
  measure: { argument: Load; result: Measured };
  cpu: { argument: null; result: { cpuMs: number } };
  stop: { argument: null; result: null };
}

export type Command = keyof Commands;

export interface Question<C extends Command = Command> {
  readonly id: number;
  readonly command: C;
  readonly argument: Commands[C]['argument'];
}

export type Answer =
  | { readonly id: number; readonly result: Commands[Command]['result'] }
  | { readonly id: number; readonly failed: string };

/** Sent once, unasked, when the child's side of the peer is connected (id 0). */
export const READY_ID = 0;
