import { functionNameReason, quote, reservedReason } from '../core/names.ts';
import type { BundledFile } from './bundle.ts';
import { assignName, isFunctionDefinition } from './define.ts';
import type { FunctionDefinition } from './definition.ts';
import { failure, shownPath, type LoadFailure, type Outcome } from './failure.ts';
import { defaultNameOf } from './find.ts';
import type { Locator } from './locate.ts';

/** A function that is ready to be run. */
export interface LoadedFunction {
  readonly definition: FunctionDefinition;
  readonly name: string;
  /** Relative to the working directory where it lies inside, else absolute. */
  readonly file: string;
  /** The URL of its built module; undefined for a definition that was never in a file of its own. */
  readonly module?: string;
  /** 12 hexadecimal digits of the hash of its code, with everything that is bundled with it. */
  readonly version: string;
  /** The same as `definition.on`. */
  readonly subjects: readonly string[];
  /** Another version that gets a share of its calls, above 0 and below 1. */
  readonly canary?: { readonly loaded: LoadedFunction; readonly share: number };
}

export interface ImportedFile extends BundledFile {
  readonly module: object;
  /** Of the built module. */
  readonly url: string;
}

const NO_FUNCTION = 'name helper files with a leading underscore';

/** Takes the definitions out of the modules, names them, and finds what they must not be together. */
export function checkModules(
  modules: readonly ImportedFile[],
  { namespace, cwd, locator }: { namespace: string; cwd: string; locator: Locator },
): Outcome<LoadedFunction[]> {
  const functions: LoadedFunction[] = [];
  const failures: LoadFailure[] = [];
  const byName = new Map<string, string>();
  const byDefinition = new Map<unknown, string>();

  for (const { file, version, module, url } of modules) {
    const shown = shownPath(file, cwd);
    const definition = (module as { default?: unknown }).default;
    if (!isFunctionDefinition(definition)) {
      const what =
        definition === undefined ? 'has no default export' : 'its default export is not a function';
      failures.push(failure(shown, undefined, `${what} made by defineFunction; ${NO_FUNCTION}`));
      continue;
    }
    const place = locator.ofPosition(definition.definedAt);
    const at = place === undefined ? shown : shownPath(place.file, cwd);
    const fail = (reason: string) => failures.push(failure(at, place?.line, reason));

    const twin = byDefinition.get(definition);
    if (twin !== undefined) {
      failures.push(failure(shown, undefined, `exports the same function as ${twin}`));
      continue;
    }
    byDefinition.set(definition, shown);

    const name = definition.name ?? defaultNameOf(file);
    const nameReason = functionNameReason(name);
    if (nameReason !== undefined) {
      fail(
        `the name ${quote(name)}, from the file's name, ${nameReason}; give the function a name`,
      );
      continue;
    }
    const holder = byName.get(name);
    if (holder === undefined) byName.set(name, shown);
    else fail(`there are two functions named ${quote(name)}, in ${holder} and ${shown}`);

    for (const subject of definition.on) {
      const reason = reservedReason(subject, namespace);
      if (reason !== undefined) fail(`the subject ${quote(subject)} ${reason}`);
    }
    assignName(definition, name);
    const subjects = definition.on;
    functions.push({ definition, name, file: shown, version, subjects, module: url });
  }
  return failures.length === 0 ? { ok: true, value: functions } : { ok: false, failures };
}
