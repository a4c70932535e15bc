/**
 * Changes what runs: all workers load it first, then one write to the manifest decides, then all workers switch.
 *
 * Whoever does this may die at any step. Before the write nothing has changed; after it workers that were not told see it when
 * they look (worker/deployed.ts). Two at once: the manifest's revision lets one of them write, the other is told.
 */
import type { Bus } from '../bus/connection.ts';
import { writeControl } from '../bus/messages.ts';
import { MillraceError } from '../core/errors.ts';
import type { InspectedWorker } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { askWorkers, type Answers } from './ask-workers.ts';
import type { WorkerWord } from './messages.ts';
import { MAX_DEPLOYED_FUNCTIONS, type Deployed, type Manifest } from './records.ts';
import type { DeployStore, Read } from './store.ts';

export interface RolledOut {
  manifest: Manifest;
  /** How many workers run it now. */
  workers: number;
  /** By worker: functions that it runs from its own folder instead. */
  local: Map<string, readonly string[]>;
}

/** What becomes of a function; undefined: it is removed. */
export type Change = readonly [functionName: string, deployed: Deployed | undefined];

const MAX_SHOWN_FAILURES = 5;

export class Rollout {
  readonly #bus: Bus;
  readonly #settings: Settings;
  readonly #store: DeployStore;
  readonly #by: string;

  constructor(bus: Bus, settings: Settings, store: DeployStore, by: string) {
    this.#bus = bus;
    this.#settings = settings;
    this.#store = store;
    this.#by = by;
  }

  /**
   * `before` is what the changes were made of. Rejects with DEPLOY_CONFLICT when somebody else was faster, and with
   * FUNCTION_LOAD_FAILED when a worker cannot run it: then all run what they ran before.
   */
  async change(
    { value: before, revision }: Read<Manifest>,
    changes: readonly Change[],
  ): Promise<RolledOut> {
    const functions = new Map(before.functions);
    for (const [name, deployed] of changes) {
      if (deployed === undefined) functions.delete(name);
      else functions.set(name, deployed);
    }
    if (functions.size > MAX_DEPLOYED_FUNCTIONS) {
      throw new MillraceError(
        'PAYLOAD_TOO_LARGE',
        `${functions.size} functions would be deployed; ${MAX_DEPLOYED_FUNCTIONS} are possible in one namespace.`,
      );
    }
    const workers = await this.#workers();
    const load = changes.flatMap(([name, deployed]) => {
      const versions = [deployed?.version, deployed?.canary?.version];
      return versions.flatMap((version) => (version === undefined ? [] : [[name, version]]));
    });
    const { deployPrepare } = subjectsOf(this.#settings.namespace);
    const prepared = await this.#ask(deployPrepare, { load }, workers);
    if (prepared.failed.length > 0) throw notLoaded(prepared.failed, 'nothing was changed');
    const at = new Date().toISOString();
    const manifest = { generation: before.generation + 1, at, by: this.#by, functions };
    const written = await this.#store.putManifest(manifest, revision);
    if (written === undefined) throw await this.#conflict();
    const switched = await this.#switch(manifest.generation, workers).catch((cause: unknown) => {
      throw new MillraceError(
        'UNAVAILABLE',
        'The change is written, and workers follow within seconds; the connection to NATS broke before they could say so.',
        { cause },
      );
    });
    if (switched.failed.length > 0) {
      await this.#back(before, manifest.generation, written, workers);
      throw notLoaded(switched.failed, 'what ran before runs again');
    }
    const local = switched.ready.map(({ worker, local: own = [] }) => [worker, own] as const);
    return { manifest, workers: switched.ready.length, local: new Map(local) };
  }

  /** A change that follows is somebody's who knows of this one. */
  async #back(
    before: Manifest,
    generation: number,
    revision: number,
    workers: readonly string[],
  ): Promise<void> {
    const again = { ...before, generation: generation + 1 };
    const written = await this.#store.putManifest(again, revision);
    if (written !== undefined) await this.#switch(again.generation, workers);
  }

  async #switch(generation: number, workers: readonly string[]): Promise<Answers> {
    const { deploySwitch } = subjectsOf(this.#settings.namespace);
    return this.#ask(deploySwitch, { generation }, workers);
  }

  async #ask(subject: string, question: object, workers: readonly string[]): Promise<Answers> {
    return askWorkers(this.#bus, this.#settings, subject, writeControl(question), workers);
  }

  /** Those that run now; with none, workers load it when they start. */
  async #workers(): Promise<string[]> {
    const { namespace, inspectTimeoutMs } = this.#settings;
    const subject = subjectsOf(namespace).inspect('workers');
    try {
      const answer = await this.#bus.request(subject, Buffer.from('{}'), 2 * inspectTimeoutMs);
      const { workers } = answer.json<{ workers: InspectedWorker[] }>();
      return workers.filter(({ state }) => state === 'running').map(({ id }) => id);
    } catch (error) {
      const { code } = error as MillraceError;
      // Those that are stopped see it when they go on.
      if ((code === 'UNAVAILABLE' || code === 'TIMEOUT') && this.#bus.up) return [];
      throw error;
    }
  }

  async #conflict(): Promise<MillraceError> {
    const { value } = await this.#store.manifest();
    return new MillraceError(
      'DEPLOY_CONFLICT',
      `${value.by} has changed what is deployed at ${value.at}; nothing was changed by this. Look at it and try again.`,
      { details: { by: value.by, at: value.at, generation: value.generation } },
    );
  }
}

function notLoaded(failed: readonly WorkerWord[], outcome: string): MillraceError {
  const reasons = failed
    .slice(0, MAX_SHOWN_FAILURES)
    .map(({ worker, why = 'it says no reason' }) => `worker ${worker}: ${why}`);
  const more = failed.length - reasons.length;
  if (more > 0) reasons.push(`and ${more} more workers`);
  return new MillraceError('FUNCTION_LOAD_FAILED', `${reasons.join('\n')}\n${outcome}`);
}
