/** What is deployed: asked for, and changed back. Deploying itself needs the sources: `millrace deploy`. */
import { hostname, userInfo } from 'node:os';
import type { Bus } from '../bus/connection.ts';
import { MillraceError } from '../core/errors.ts';
import { assertFunctionName } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import type { Deployed, Manifest } from '../deploy/records.ts';
import { Rollout, type RolledOut } from '../deploy/rollout.ts';
import { DeployStore, type Read } from '../deploy/store.ts';

export interface DeployedInfo extends Deployed {
  name: string;
}

export interface VersionInfo {
  version: string;
  /** `running`; `canary`: gets a share of the calls; `previous`: where a rollback goes. */
  state: 'running' | 'canary' | 'previous' | 'kept';
  /** ISO 8601, UTC: when it was deployed first, and by whom. */
  at: string;
  by: string;
  message: string | null;
  /** With all that is bundled with it, and source maps. */
  bytes: number;
  source: string;
}

export interface RollbackResult {
  function: string;
  /** What runs now. */
  version: string;
  /** What ran, or was a canary, before. */
  from: string;
  workers: number;
}

/** Enough of a version to name it. */
const MIN_PREFIX = 4;

export class Deploys {
  readonly #bus: Bus;
  readonly #settings: Settings;
  #opened: Promise<DeployStore> | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#settings = settings;
  }

  /** By name. Rejects with UNAVAILABLE where JetStream does not serve. */
  async list(): Promise<DeployedInfo[]> {
    const { value } = await (await this.store()).manifest();
    const all = [...value.functions].map(([name, deployed]) => ({ name, ...deployed }));
    return all.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The newest first. Rejects with NOT_FOUND for a function that was never deployed. */
  async versions(functionName: string): Promise<VersionInfo[]> {
    assertFunctionName(functionName, 'INVALID_INPUT');
    const store = await this.store();
    const [{ value: manifest }, { value: versions }] = await Promise.all([
      store.manifest(),
      store.versions(functionName),
    ]);
    if (versions.length === 0) throw neverDeployed(functionName);
    const now = manifest.functions.get(functionName);
    return versions.toReversed().map(({ version, at, by, message, files, source }) => ({
      version,
      state: stateOf(version, now),
      at,
      by,
      message: message ?? null,
      source,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    }));
  }

  /**
   * Has a version run that ran before: `version`, or the beginning of it; by default the one before, and while there is a canary the
   * one beside it. Rejects with NOT_FOUND where there is none, otherwise as a deploy does.
   */
  async rollback(functionName: string, version?: string): Promise<RollbackResult> {
    const store = await this.store();
    const before = await store.manifest();
    const now = deployedOf(before.value, functionName);
    const { canary, ...stable } = now;
    const to = await this.#target(functionName, now, version);
    const back =
      to === now.version
        ? stable
        : { version: to, previous: now.version, at: new Date().toISOString(), by: authorHere() };
    const { workers } = await this.#change(before, functionName, back);
    const from = to === now.version ? (canary?.version ?? now.version) : now.version;
    return { function: functionName, version: to, from, workers };
  }

  /** All calls go to the canary. Rejects with NOT_FOUND where there is none, otherwise as a deploy does. */
  async promote(functionName: string): Promise<RollbackResult> {
    const before = await (await this.store()).manifest();
    const now = deployedOf(before.value, functionName);
    if (now.canary === undefined) {
      throw new MillraceError('NOT_FOUND', `${functionName} has no canary.`);
    }
    const { version } = now.canary;
    const [at, by] = [new Date().toISOString(), authorHere()];
    const deployed = { version, previous: now.version, at, by };
    const { workers } = await this.#change(before, functionName, deployed);
    return { function: functionName, version, from: now.version, workers };
  }

  /** Workers run it no more. Its versions, its events and its state stay. Rejects with NOT_FOUND where it does not run. */
  async remove(functionName: string): Promise<{ function: string; from: string; workers: number }> {
    const before = await (await this.store()).manifest();
    const { version } = deployedOf(before.value, functionName);
    const { workers } = await this.#change(before, functionName, undefined);
    return { function: functionName, from: version, workers };
  }

  /** For `millrace deploy`. */
  store(): Promise<DeployStore> {
    this.#opened ??= DeployStore.open(this.#bus, this.#settings);
    this.#opened.catch(() => (this.#opened = undefined));
    return this.#opened;
  }

  async #change(
    before: Read<Manifest>,
    functionName: string,
    deployed: Deployed | undefined,
  ): Promise<RolledOut> {
    const rollout = new Rollout(this.#bus, this.#settings, await this.store(), authorHere());
    return rollout.change(before, [[functionName, deployed]]);
  }

  async #target(name: string, now: Deployed, wanted: string | undefined): Promise<string> {
    if (wanted === undefined) {
      const to = now.canary === undefined ? now.previous : now.version;
      if (to !== undefined) return to;
      throw new MillraceError('NOT_FOUND', `${name} has no version before ${now.version}.`);
    }
    const { value } = await (await this.store()).versions(name);
    const found = value.filter(({ version }) => version.startsWith(wanted));
    const [only] = found;
    if (wanted.length < MIN_PREFIX || only === undefined || found.length > 1) {
      throw new MillraceError('NOT_FOUND', `${name} has no version ${wanted}, or not only one.`);
    }
    if (only.version === now.version && now.canary === undefined) {
      throw new MillraceError('INVALID_INPUT', `${name} runs version ${now.version} already.`);
    }
    return only.version;
  }
}

/** Who changes what is deployed, as far as this process knows. */
export function authorHere(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    // A user without a name, as in some containers.
    return hostname();
  }
}

function stateOf(version: string, now: Deployed | undefined): VersionInfo['state'] {
  if (version === now?.version) return 'running';
  if (version === now?.canary?.version) return 'canary';
  return version === now?.previous ? 'previous' : 'kept';
}

function deployedOf({ functions }: Manifest, functionName: string): Deployed {
  assertFunctionName(functionName, 'INVALID_INPUT');
  const deployed = functions.get(functionName);
  if (deployed === undefined) throw neverDeployed(functionName);
  return deployed;
}

function neverDeployed(functionName: string): MillraceError {
  return new MillraceError('NOT_FOUND', `${functionName} is not deployed.`);
}
