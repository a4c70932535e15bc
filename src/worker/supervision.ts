/** What a worker and the process that started it tell each other. */
export type ToWorker = { type: 'reload' };

export type FromWorker =
  | { type: 'ready'; id: string; inputs: string[] }
  | { type: 'reloaded'; inputs: string[]; functions: string[] }
  | { type: 'reload-failed'; message: string };
