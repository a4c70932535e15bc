/** `millrace deploy`: builds a folder, checks it, stores it, and has it run. */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Bus } from '../bus/connection.ts';
import { MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { shownPath } from '../function/failure.ts';
import { findFunctionFiles } from '../function/find.ts';
import { bundleForDeploy, type DeployBundle } from './bundle.ts';
import { Checker, type CheckedFunction } from './check.ts';
import {
  MAX_AUTHOR_CHARACTERS,
  MAX_MESSAGE_CHARACTERS,
  MAX_VERSIONS,
  type Deployed,
  type Manifest,
  type VersionRecord,
} from './records.ts';
import { Rollout, type Change, type RolledOut } from './rollout.ts';
import type { Signature, Signer } from './signature.ts';
import type { DeployStore } from './store.ts';

export interface DeployOptions {
  /** Relative paths are relative to `cwd`. */
  directory: string;
  cwd: string;
  author: string;
  message?: string | undefined;
  /** The share of calls that changed functions get first, above 0 and below 1; all of them by default. */
  canary?: number | undefined;
  /** Signs all that is deployed, also what runs already. */
  signer?: Signer | undefined;
  /** Is told what is being done. */
  onProgress?: (text: string) => void;
}

export interface DeployedFunction {
  name: string;
  version: string;
  /** What ran before; null for nothing. */
  before: string | null;
  /** What became of it. */
  outcome: 'new' | 'changed' | 'canary' | 'unchanged';
}

export interface DeployResult extends Pick<RolledOut, 'workers' | 'local'> {
  /** By name. */
  functions: DeployedFunction[];
  generation: number;
}

/** Files that no version needs are removed when they are so old. */
const COLLECT_AFTER_MS = 3_600_000;
/** Somebody else changes the same function's list just now. */
const MAX_ATTEMPTS = 5;
const UPLOADS = 16;

/**
 * Rejects with FUNCTION_LOAD_FAILED when a function does not load, here or on a worker, PAYLOAD_TOO_LARGE, DEPLOY_CONFLICT when
 * somebody else was faster, INVALID_INPUT for a canary that cannot run beside the version before; then nothing has changed.
 */
export async function deployFolder(
  bus: Bus,
  settings: Settings,
  store: DeployStore,
  options: DeployOptions,
): Promise<DeployResult> {
  const { author, canary, signer, onProgress = () => {} } = options;
  const by = author.slice(0, MAX_AUTHOR_CHARACTERS);
  // Read first: what others deploy while this one is built is not overwritten.
  const before = await store.manifest();
  const cwd = await realpath(options.cwd);
  const directory = await realpath(resolve(cwd, options.directory)).catch(() =>
    resolve(cwd, options.directory),
  );
  const files = await findFunctionFiles(directory, shownPath(directory, cwd));
  onProgress(`building ${files.length} ${files.length === 1 ? 'function' : 'functions'} …`);
  const { bundle, checked } = await buildChecked(files, directory, cwd, settings.namespace);
  const plans = checked.map((built) => planOf(built, before.value, canary, by));
  for (const { built, outcome } of plans) {
    if (outcome === 'canary') await assertBeside(store, built, before.value);
  }
  const changed = plans.filter(({ outcome }) => outcome !== 'unchanged');
  const needed = changed.flatMap(({ built }) => built.files.map(({ path }) => path));
  const uploads = [...new Set(needed)].flatMap((path) => bundle.files.get(path) ?? []);
  if (uploads.length > 0) onProgress(`storing ${uploads.length} files …`);
  for (let index = 0; index < uploads.length; index += UPLOADS) {
    await Promise.all(
      uploads.slice(index, index + UPLOADS).map(async (file) => store.putFile(file)),
    );
  }
  const { message } = options;
  const remembered = signer === undefined ? changed : plans;
  await Promise.all(
    remembered.map(async ({ built }) => {
      const signed = signer?.sign(settings.namespace, built);
      await remember(store, { ...built, signed }, by, message, before.value);
    }),
  );
  const functions = plans.map(({ built, outcome, ran }) => {
    const { name, version } = built;
    return { name, version, before: ran ?? null, outcome };
  });
  functions.sort((a, b) => (a.name < b.name ? -1 : 1));
  if (changed.length === 0) {
    return { functions, workers: 0, local: new Map(), generation: before.value.generation };
  }
  onProgress('loading on the workers …');
  const changes = changed.map(({ built, deployed }): Change => [built.name, deployed]);
  const { manifest, ...rest } = await new Rollout(bus, settings, store, by).change(before, changes);
  await store.collect(COLLECT_AFTER_MS).catch(() => {});
  return { functions, ...rest, generation: manifest.generation };
}

/** The process that checks starts while the functions are built. */
async function buildChecked(
  files: readonly string[],
  directory: string,
  cwd: string,
  namespace: string,
): Promise<{ bundle: DeployBundle; checked: CheckedFunction[] }> {
  const checker = new Checker();
  try {
    const bundle = await bundleForDeploy(files, directory, cwd);
    return { bundle, checked: await checker.check(bundle, namespace) };
  } finally {
    checker.close();
  }
}

interface Plan {
  built: CheckedFunction;
  deployed: Deployed;
  outcome: DeployedFunction['outcome'];
  /** The version that runs now. */
  ran: string | undefined;
}

function planOf(
  built: CheckedFunction,
  { functions }: Manifest,
  share: number | undefined,
  by: string,
): Plan {
  const { name, version } = built;
  const at = new Date().toISOString();
  const now = functions.get(name);
  if (now === undefined) {
    return { built, deployed: { version, at, by }, outcome: 'new', ran: undefined };
  }
  const ran = now.version;
  const again = now.canary?.version === version && now.canary.share === share;
  if (again || (ran === version && now.canary === undefined)) {
    return { built, deployed: now, outcome: 'unchanged', ran };
  }
  if (share === undefined || ran === version) {
    const previous = ran === version ? now.previous : ran;
    const deployed = { version, at, by, ...(previous === undefined ? {} : { previous }) };
    return { built, deployed, outcome: 'changed', ran };
  }
  const deployed = { ...now, canary: { version, share, at, by } };
  return { built, deployed, outcome: 'canary', ran };
}

async function assertBeside(
  store: DeployStore,
  { name, identity }: CheckedFunction,
  { functions }: Manifest,
): Promise<void> {
  const now = await store.version(name, functions.get(name)?.version ?? '');
  if (now.identity === identity) return;
  throw new MillraceError(
    'INVALID_INPUT',
    `${name} cannot run as a canary: its subjects, key, schedule, delivery or flow control are not those of the version that runs; deploy it without --canary.`,
  );
}

type SignedFunction = CheckedFunction & { signed: Signature | undefined };

/** The newest last; a version that is deployed again keeps its place. The oldest that nobody needs goes. */
async function remember(
  store: DeployStore,
  { name, version, entry, files, source, identity, signed }: SignedFunction,
  by: string,
  message: string | undefined,
  { functions }: Manifest,
): Promise<void> {
  const record: VersionRecord = {
    version,
    entry,
    files,
    source,
    identity,
    by,
    at: new Date().toISOString(),
    ...(signed === undefined ? {} : { signed }),
    ...(message === undefined ? {} : { message: message.slice(0, MAX_MESSAGE_CHARACTERS) }),
  };
  const now = functions.get(name);
  const kept = new Set([version, now?.version, now?.previous, now?.canary?.version]);
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt += 1) {
    const { value, revision } = await store.versions(name);
    const known = value.find((each) => each.version === version);
    if (known !== undefined && (signed === undefined || known.signed?.key === signed.key)) return;
    const versions =
      known === undefined
        ? [...value, record]
        : value.map((each) => (each === known ? { ...record, at: known.at, by: known.by } : each));
    while (versions.length > MAX_VERSIONS) {
      versions.splice(
        versions.findIndex((each) => !kept.has(each.version)),
        1,
      );
    }
    if ((await store.putVersions(name, versions, revision)) !== undefined) return;
  }
  throw new MillraceError(
    'DEPLOY_CONFLICT',
    `${name} is being deployed by somebody else just now.`,
  );
}
