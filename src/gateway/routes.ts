/** Routes of functions' own, as the workers say: asked again and again, so that a function that is deployed has its route at once. */
import type { CatalogEntry } from '../core/catalog.ts';
import type { Mill } from '../client/client.ts';

export interface Route {
  entry: CatalogEntry;
  params: Record<string, string>;
}

/** How long an answer is believed. */
const KEPT_MS = 1_000;

export class Routes {
  readonly #mill: Mill;
  readonly #onProblem: (text: string) => void;
  #entries: CatalogEntry[] = [];
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<CatalogEntry[]> | undefined;
  #complained = '';

  constructor(mill: Mill, onProblem: (text: string) => void) {
    this.#mill = mill;
    this.#onProblem = onProblem;
  }

  /** Those of the last second; while no worker answers, what was known before. */
  async entries(): Promise<CatalogEntry[]> {
    if (performance.now() - this.#askedAtMs < KEPT_MS) return this.#entries;
    this.#asking ??= this.#mill.inspect
      .catalog()
      .then((entries) => {
        this.#entries = entries;
        this.#complainOfTwins();
        return entries;
      })
      .catch(() => this.#entries)
      .finally(() => {
        this.#askedAtMs = performance.now();
        this.#asking = undefined;
      });
    return this.#asking;
  }

  async find(method: string, path: string): Promise<Route | undefined> {
    const segments = path.slice(1).split('/');
    let found: Route | undefined;
    for (const entry of await this.entries()) {
      if (entry.http?.method !== method) continue;
      const params = paramsOf(entry.http.path, segments);
      if (params === undefined) continue;
      // What is spelled out comes before what stands for anything.
      const fewer = Object.keys(params).length < Object.keys(found?.params ?? {}).length;
      if (found === undefined || fewer) found = { entry, params };
    }
    return found;
  }

  #complainOfTwins(): void {
    const seen = new Map<string, string>();
    for (const { name, http } of this.#entries) {
      if (http === undefined) continue;
      const key = `${http.method} ${http.path.replaceAll(/:[^/]+/g, ':')}`;
      const other = seen.get(key);
      if (other !== undefined && this.#complained !== key) {
        this.#complained = key;
        this.#onProblem(`${name} and ${other} have the same route ${key}; ${other} gets it`);
      }
      if (other === undefined) seen.set(key, name);
    }
  }
}

function paramsOf(path: string, given: readonly string[]): Record<string, string> | undefined {
  const wanted = path.slice(1).split('/');
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, segment] of wanted.entries()) {
    const value = given[index] ?? '';
    if (segment.startsWith(':')) {
      if (value === '') return undefined;
      try {
        params[segment.slice(1)] = decodeURIComponent(value);
      } catch {
        return undefined;
      }
    } else if (segment !== value) return undefined;
  }
  return params;
}
