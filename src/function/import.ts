import { pathToFileURL } from 'node:url';
import { messageOf } from '../core/errors.ts';

export type Imported =
  { readonly ok: true; readonly module: object } | { readonly ok: false; readonly thrown: unknown };

/** A module that does not finish loading; has no stack, since nothing was thrown. */
export class ImportTimeout {
  readonly timeoutMs: number;

  constructor(timeoutMs: number) {
    this.timeoutMs = timeoutMs;
  }
}

/**
 * Loads a module. One that waits for ever at its top level is given up after `timeoutMs`; one that never yields cannot
 * be. The same file is loaded once in a process, also when it failed: a changed file has to have another path.
 */
export async function importModule(file: string, timeoutMs: number): Promise<Imported> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Imported>((resolve) => {
    const timedOut: Imported = { ok: false, thrown: new ImportTimeout(timeoutMs) };
    timer = setTimeout(() => resolve(timedOut), timeoutMs);
  });
  const loading = import(/* @vite-ignore */ pathToFileURL(file).href).then(
    (module: object): Imported => ({ ok: true, module }),
    (thrown: unknown): Imported => ({ ok: false, thrown }),
  );
  try {
    return await Promise.race([loading, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Why a module could not be loaded, as it continues "file:line: ". */
export function importReason(thrown: unknown): string {
  if (thrown instanceof ImportTimeout)
    return `did not finish loading within ${thrown.timeoutMs} ms; does it wait for something at its top level?`;
  // What defineFunction refuses says already what is wrong and in which function.
  if ((thrown as { code?: unknown } | null)?.code === 'INVALID_DEFINITION')
    return messageOf(thrown);
  const kind = thrown instanceof Error && thrown.name !== 'Error' ? `${thrown.name}: ` : '';
  return `throws while it is loaded: ${kind}${messageOf(thrown)}`;
}
