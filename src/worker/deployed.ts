/**
 * What this worker runs: the functions of its own folder and those that are deployed.
 *
 * - P1  Asked to prepare, it loads without offering: nobody sees what is not switched to.
 * - P2  It runs what the manifest says, as far as that loads here; a version that does not leaves the one before running.
 * - P3  A change that it was not told of, because it was stopped or cut off, is seen within LOOK_EVERY_MS.
 * - P4  With keys to trust it loads nothing that none of them has signed: before a file of it is fetched.
 */
import { resolve } from 'node:path';
import type { Msg, Subscription } from 'nats';
import type { Logger } from 'pino';
import type { Bus } from '../bus/connection.ts';
import { eachOf } from '../bus/each-of.ts';
import { readControl, writeControl } from '../bus/messages.ts';
import { isWorse } from '../core/deploy/canary.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import type { InspectedFunction } from '../core/report.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { DeployedFiles } from '../deploy/files.ts';
import { prepareSchema, switchSchema, type WorkerWord } from '../deploy/messages.ts';
import { NOTHING_DEPLOYED, type Manifest } from '../deploy/records.ts';
import { Rollout } from '../deploy/rollout.ts';
import { assertSigned } from '../deploy/signature.ts';
import { DeployStore } from '../deploy/store.ts';
import type { LoadedFunction } from '../function/load.ts';
import { keepsFromStarting } from './refusals.ts';
import type { Secrets } from './secrets.ts';
import type { Worker } from './worker.ts';

export interface DeployedOptions {
  bus: Bus;
  settings: Settings;
  log: Logger;
  worker: Worker;
  secrets: Secrets;
  /** Where deployed files are kept: absolute. */
  directory: string;
  /** The URL that `import … from 'millrace'` means. */
  packageEntry: string;
  /** Names of functions; undefined for all. */
  only: readonly string[] | undefined;
  /** Of two of the same name the folder's own runs, not the deployed one. */
  preferLocal: boolean;
  /** Public keys, one of which must have signed what is deployed; undefined: nobody need have. */
  trusted?: readonly string[] | undefined;
}

const LOOK_EVERY_MS = 5_000;
/** How often one of the workers looks whether a canary fails more often. */
const JUDGE_EVERY_MS = 2_000;
const LOADS = 8;
const AUTHOR = 'millrace';

export class Deployed {
  readonly #of: DeployedOptions;
  readonly #log: Logger;
  readonly #loaded = new Map<string, LoadedFunction>();
  readonly #subscriptions: Subscription[] = [];
  #store: DeployStore | undefined;
  #files: DeployedFiles | undefined;
  #manifest: Manifest = NOTHING_DEPLOYED;
  #local: readonly LoadedFunction[] = [];
  /** By name, as the manifest says or as before. */
  #running = new Map<string, LoadedFunction>();
  /** What did not load of the last manifest: function and reason. */
  #failures: string[] = [];
  /** An offer that failed is made again at the next look. */
  #unoffered = false;
  #said = '';
  #applying: Promise<void> = Promise.resolve();
  #looking: NodeJS.Timeout | undefined;
  #judging: NodeJS.Timeout | undefined;
  #closed = false;
  /** Why it cannot be read, as it was told last. */
  #unreadable = '';

  constructor(options: DeployedOptions) {
    this.#of = options;
    this.#log = options.log;
  }

  /** Offers both kinds. Throws USAGE where one of `only` is in neither. */
  async start(local: readonly LoadedFunction[]): Promise<void> {
    const { bus, settings } = this.#of;
    this.#local = local;
    const { deployPrepare, deploySwitch } = subjectsOf(settings.namespace);
    try {
      await this.#look();
    } catch (error) {
      // A worker without what is deployed would only say that it knows none of it.
      if (!bus.up || keepsFromStarting(error)) throw error;
      this.#cannotRead(error);
    }
    this.#assertThere();
    await this.#offer();
    this.#subscriptions.push(
      bus.subscribe(deployPrepare, (message) => this.#onPrepare(message)),
      bus.subscribe(deploySwitch, (message) => this.#onSwitch(message)),
    );
    this.#looking = setInterval(() => void this.#lookAgain(), LOOK_EVERY_MS);
    this.#judgeLater(1);
  }

  /** Those of the folder have changed. */
  async setLocal(local: readonly LoadedFunction[]): Promise<void> {
    await this.#inOrder(async () => {
      this.#local = local;
      await this.#offer();
    });
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#looking);
    clearTimeout(this.#judging);
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  /** What is offered now. */
  functions(): LoadedFunction[] {
    const { only } = this.#of;
    return this.#all().filter(({ name }) => only?.includes(name) !== false);
  }

  #all(): LoadedFunction[] {
    const { preferLocal } = this.#of;
    const deployed = [...this.#running.values()];
    const [first, second] = preferLocal ? [this.#local, deployed] : [deployed, this.#local];
    const names = new Set(first.map(({ name }) => name));
    return [...first, ...second.filter(({ name }) => !names.has(name))];
  }

  /** Deployed ones that its own folder has, too. */
  #both(): string[] {
    return this.#local.map(({ name }) => name).filter((name) => this.#manifest.functions.has(name));
  }

  async #openFiles(): Promise<DeployedFiles> {
    if (this.#files !== undefined) return this.#files;
    const { directory, packageEntry } = this.#of;
    const store = await this.#openStore();
    this.#files = await DeployedFiles.open({
      directory,
      packageEntry,
      fetch: async ({ hash }) => store.file(hash),
    });
    await this.#files.collect();
    return this.#files;
  }

  async #openStore(): Promise<DeployStore> {
    this.#store ??= await DeployStore.open(this.#of.bus, this.#of.settings);
    return this.#store;
  }

  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#applying.catch(() => {}).then(work);
    this.#applying = done;
    return done;
  }

  async #lookAgain(): Promise<void> {
    if (!this.#of.bus.up) return;
    try {
      await this.#inOrder(async () => this.#follow());
      this.#unreadable = '';
    } catch (error) {
      this.#cannotRead(error);
    }
  }

  /** What was loaded before runs on. Told once, unless it is a server that is away. */
  #cannotRead(error: unknown): void {
    const { code, message } = error as MillraceError;
    this.#log.debug({ err: error }, 'what is deployed cannot be read');
    if (code === 'UNAVAILABLE' || code === 'TIMEOUT' || message === this.#unreadable) return;
    this.#unreadable = message;
    this.#log.error({ code }, `what is deployed is not followed any more: ${message}`);
  }

  /** True when something has changed; then what loads is ready to be offered. */
  async #look(): Promise<boolean> {
    // Where nothing is deployed nothing is written to the disk.
    const { value: manifest } = await (await this.#openStore()).manifest();
    // A server that was cut off while it led answers with the past for some seconds.
    if (manifest.generation < this.#manifest.generation) return false;
    const same = manifest.generation === this.#manifest.generation;
    if (this.#closed || (same && this.#failures.length === 0)) return false;
    const running = new Map<string, LoadedFunction>();
    const failures: string[] = [];
    await eachOf([...manifest.functions], LOADS, async ([name, { version, canary }]) => {
      if (this.#of.only?.includes(name) === false) return;
      const before = this.#running.get(name);
      try {
        const stable = await this.#load(name, version);
        running.set(name, stable);
        if (canary === undefined) return;
        const { share } = canary;
        const loaded = await this.#load(name, canary.version);
        running.set(name, { ...stable, canary: { loaded, share } });
      } catch (error) {
        if (before !== undefined && !running.has(name)) running.set(name, before);
        failures.push(`${name}: ${messageOf(error)}`);
      }
    });
    const news = String(failures) !== String(this.#failures);
    if (news)
      for (const why of failures) this.#log.error(`a deployed function does not load: ${why}`);
    this.#manifest = manifest;
    this.#running = running;
    this.#failures = failures;
    this.#forget();
    return !same || news;
  }

  /** Versions that do not run any more are loaded anew if they come back. */
  #forget(): void {
    const needed = new Set<string>();
    for (const [name, { version, previous, canary }] of this.#manifest.functions) {
      for (const each of [version, previous, canary?.version]) needed.add(`${name} ${each}`);
    }
    for (const key of this.#loaded.keys()) if (!needed.has(key)) this.#loaded.delete(key);
  }

  async #load(name: string, version: string): Promise<LoadedFunction> {
    const key = `${name} ${version}`;
    const known = this.#loaded.get(key);
    if (known !== undefined) return known;
    const record = await (await this.#openStore()).version(name, version);
    const { trusted, settings } = this.#of;
    if (trusted !== undefined) assertSigned(settings.namespace, name, record, trusted);
    const loaded = await (await this.#openFiles()).load(record, settings.namespace);
    if (loaded.name !== name) {
      throw new MillraceError('FUNCTION_LOAD_FAILED', `it calls itself ${loaded.name}`);
    }
    this.#of.secrets.need(loaded);
    this.#loaded.set(key, loaded);
    return loaded;
  }

  async #follow(): Promise<void> {
    const changed = await this.#look();
    if (changed || this.#unoffered) await this.#offer();
  }

  async #offer(): Promise<void> {
    if (this.#closed) return;
    this.#unoffered = true;
    await this.#of.worker.offer(this.functions());
    this.#unoffered = false;
    const both = this.#both().join(', ');
    if (both === this.#said) return;
    this.#said = both;
    const where = this.#of.preferLocal ? "from this worker's own folder" : 'as deployed';
    if (both !== '')
      this.#log.warn(`deployed, and in this worker's own folder; run ${where}: ${both}`);
  }

  #assertThere(): void {
    const missing = this.#of.only?.find((name) => !this.#all().some((each) => each.name === name));
    if (missing === undefined) return;
    const known = this.#all().map(({ name }) => name);
    throw new MillraceError(
      'USAGE',
      `There is no function ${missing}; there are: ${known.join(', ')}.`,
    );
  }

  #onPrepare({ data, reply }: Msg): void {
    const question = readControl(prepareSchema, data);
    if (question === undefined) return;
    void this.#answer(reply, async () => {
      const wanted = question.load.filter(([name]) => this.#of.only?.includes(name) !== false);
      const failures: string[] = [];
      await eachOf(wanted, LOADS, async ([name, version]) => {
        await this.#load(name, version).catch((error: unknown) => {
          failures.push(`${name}: ${messageOf(error)}`);
        });
      });
      return failures;
    });
  }

  #onSwitch({ data, reply }: Msg): void {
    const question = readControl(switchSchema, data);
    if (question === undefined) return;
    void this.#answer(reply, async () => {
      await this.#inOrder(async () => this.#follow());
      if (this.#manifest.generation >= question.generation) return this.#failures;
      return ['it sees an older state of what is deployed'];
    });
  }

  async #answer(reply: string | undefined, work: () => Promise<readonly string[]>): Promise<void> {
    const { bus, worker } = this.#of;
    const say = (word: Omit<WorkerWord, 'worker'>): void =>
      bus.answer(reply, writeControl({ worker: worker.id, ...word }));
    say({ state: 'heard' });
    try {
      const failures = await work();
      const why = failures.join('; ').slice(0, 2_000);
      say(
        failures.length === 0
          ? { state: 'ready', local: this.#of.preferLocal ? this.#both() : [] }
          : { state: 'failed', why },
      );
    } catch (error) {
      say({ state: 'failed', why: messageOf(error).slice(0, 2_000) });
    }
  }

  /** `workers`: that do the same. Each looks so seldom that all together look every JUDGE_EVERY_MS. */
  #judgeLater(workers: number): void {
    if (this.#closed) return;
    const waitMs = JUDGE_EVERY_MS * workers * (0.5 + Math.random());
    this.#judging = setTimeout(() => {
      const judged = [...this.#manifest.functions.values()].some(({ canary }) => canary);
      if (!judged || !this.#of.bus.up) this.#judgeLater(1);
      else {
        void this.#judge().then(
          (others) => this.#judgeLater(others),
          (error: unknown) => {
            this.#log.debug({ err: error }, 'canaries were not judged');
            this.#judgeLater(workers);
          },
        );
      }
    }, waitMs);
  }

  /** Gives how many workers there are. */
  async #judge(): Promise<number> {
    const { bus, settings } = this.#of;
    const subject = subjectsOf(settings.namespace).inspect('functions');
    const answer = await bus.request(subject, Buffer.from('{}'), 2 * settings.inspectTimeoutMs);
    const { functions = [] } = answer.json<{ functions?: InspectedFunction[] }>();
    const store = await this.#openStore();
    for (const { name, canary } of functions) {
      if (canary == null || !isWorse(canary.stable, canary)) continue;
      const before = await store.manifest();
      const now = before.value.functions.get(name);
      if (now?.canary?.version !== canary.version) continue;
      const { canary: bad, ...stable } = now;
      const { errors, calls, stable: beside } = canary;
      const why = `${errors} of ${calls} calls failed, of the version beside it ${beside.errors} of ${beside.calls}`;
      this.#log.warn(`the canary ${bad.version} of ${name} is taken back: ${why}`);
      const takenBack = { version: bad.version, at: new Date().toISOString(), why };
      // Another worker may be faster: then there is nothing to do.
      await new Rollout(bus, settings, store, AUTHOR)
        .change(before, [[name, { ...stable, takenBack }]])
        .catch((error: unknown) => {
          if ((error as MillraceError).code !== 'DEPLOY_CONFLICT') throw error;
        });
    }
    return Math.max(1, ...functions.map(({ workers }) => workers));
  }
}

/** Where a worker that runs in `cwd` keeps deployed files. */
export function deployedDirectory(cwd: string): string {
  return resolve(cwd, '.millrace/deployed');
}
