import { readFile, writeFile } from 'node:fs/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { connect, openBus } from '../client/client.ts';
import {
  authorHere,
  type DeployedInfo,
  type RollbackResult,
  type VersionInfo,
} from '../client/deploys.ts';
import { MillraceError, messageOf } from '../core/errors.ts';
import { makeDeployKey, Signer } from '../deploy/signature.ts';
import { DeployStore } from '../deploy/store.ts';
import type { DeployResult } from '../deploy/deploy.ts';
import type { InspectedFunction } from '../core/report.ts';
import {
  connectOptions,
  DEFAULT_FUNCTIONS,
  ENVIRONMENT,
  notEmpty,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printError, printJson, table } from './output.ts';

interface DeployFlags extends ConnectionFlags, OutputFlags {
  author?: string;
  message?: string;
  canary?: number;
  sign?: string;
}

type Flags = ConnectionFlags & OutputFlags;

export function deployCommands(program: Command): void {
  deploy(program);
  deployKey(program);
  versions(program);
  rollback(program);
  promote(program);
  remove(program);
}

function deploy(program: Command): void {
  withJson(withConnection(program.command('deploy')))
    .summary('build a folder of functions and have all workers run it')
    .description(
      `Builds the functions of a folder with all that they import, checks that they load, stores them in NATS, and has all workers
load them before any of them switches. What is under way ends on the version that it began with. Functions that are
not in the folder are left alone. Where one function does not load, here or on a worker, nothing changes.`,
    )
    .argument('[dir]', 'the folder', DEFAULT_FUNCTIONS)
    .option('--canary <share>', 'give changed functions this share of the calls first: 10%', share)
    .addOption(
      new Option('--sign <file>', 'sign it with the deploy key in this file')
        .env(ENVIRONMENT.sign)
        .argParser(notEmpty),
    )
    .option('--message <text>', 'what it is about, for versions', notEmpty)
    .option('--author <name>', 'who deploys (default: user@host)', notEmpty)
    .action(async (directory: string, flags: DeployFlags) => {
      const beganMs = performance.now();
      const signer = flags.sign === undefined ? undefined : await signerOf(flags.sign);
      // Loaded only here: the bundler would slow every other command down.
      const { deployFolder } = await import('../deploy/deploy.ts');
      const { bus, settings, tracing } = await openBus(
        await connectOptions(flags),
        'millrace-deploy',
      );
      try {
        const store = await DeployStore.open(bus, settings);
        const result = await deployFolder(bus, settings, store, {
          directory,
          cwd: process.cwd(),
          author: flags.author ?? authorHere(),
          message: flags.message,
          canary: flags.canary,
          signer,
          onProgress: (text) => {
            if (process.stderr.isTTY) printError(text);
          },
        });
        const tookMs = Math.round(performance.now() - beganMs);
        if (flags.json) printJson({ ...result, local: Object.fromEntries(result.local), tookMs });
        else print(deployed(result, tookMs));
      } finally {
        await bus.close();
        await tracing?.close();
      }
      // The bundler's own process would keep this one.
      process.exit(process.exitCode ?? 0);
    });
}

function deployKey(program: Command): void {
  withJson(program.command('deploy-key'))
    .summary('make a key that signs deploys')
    .description(
      'Makes a key: the secret one is written to the file, for deploy --sign; the public one is printed, for worker --trust.',
    )
    .argument('<file>', 'must not be there yet')
    .action(async (file: string, flags: OutputFlags) => {
      const { seed, key } = makeDeployKey();
      // Nobody else may read it.
      await writeFile(file, `${seed}\n`, { flag: 'wx', mode: 0o600 }).catch((cause: unknown) => {
        throw new MillraceError('USAGE', `${file} cannot be written: ${messageOf(cause)}.`, {
          cause,
        });
      });
      if (flags.json) printJson({ file, key });
      else print(key);
    });
}

async function signerOf(file: string): Promise<Signer> {
  const seed = await readFile(file, 'utf8').catch((cause: unknown) => {
    const message = `The deploy key ${file} cannot be read: ${messageOf(cause)}.`;
    throw new MillraceError('USAGE', message, { cause });
  });
  return new Signer(seed.trim());
}

function deployed({ functions, workers, local }: DeployResult, tookMs: number): string {
  const changed = functions.filter(({ outcome }) => outcome !== 'unchanged');
  const unchanged = functions.length - changed.length;
  const same = unchanged === 0 ? '' : `, ${unchanged} unchanged`;
  if (changed.length === 0) return `nothing to deploy: ${unchanged} unchanged`;
  const rows = changed.map(({ name, version, before, outcome }) => [
    name,
    version,
    before ?? '',
    outcome,
  ]);
  const where =
    workers === 0
      ? 'no worker runs: those that start will run them'
      : `on ${workers} ${workers === 1 ? 'worker' : 'workers'}`;
  const lines = [
    table(['FUNCTION', 'VERSION', 'BEFORE', 'OUTCOME'], rows),
    `deployed ${changed.length} ${changed.length === 1 ? 'function' : 'functions'} ${where} in ${(tookMs / 1_000).toFixed(1)} s${same}`,
  ];
  const own = [...local].filter(([, names]) => names.length > 0);
  if (own.length > 0) {
    const names = [...new Set(own.flatMap(([, each]) => each))].join(', ');
    const who = own.length === 1 ? '1 worker runs' : `${own.length} workers run`;
    lines.push(
      `${who} the version of its own folder of: ${names} (millrace dev does, and worker --local)`,
    );
  }
  return lines.join('\n');
}

function versions(program: Command): void {
  withJson(withConnection(program.command('versions')))
    .summary('what is deployed, or the versions of one function')
    .argument('[function]', 'its versions, the newest first')
    .action(async (name: string | undefined, flags: Flags) => {
      await using mill = await connect(await connectOptions(flags));
      if (name !== undefined) {
        const found = await mill.deploys.versions(name);
        if (flags.json) printJson({ function: name, versions: found });
        else print(versionTable(found));
        return;
      }
      const list = await mill.deploys.list();
      const running = list.some(({ canary }) => canary !== undefined)
        ? await mill.inspect.functions().catch(() => [])
        : [];
      if (flags.json) printJson({ deployed: list });
      else print(list.length === 0 ? 'nothing is deployed' : deployedTable(list, running));
    });
}

function versionTable(found: readonly VersionInfo[]): string {
  return table(
    ['VERSION', 'STATE', 'DEPLOYED', 'BY', 'BYTES', 'MESSAGE'],
    found.map(({ version, state, at, by, bytes, message }) => [
      version,
      state,
      at.slice(0, 19),
      by,
      bytes,
      message ?? '',
    ]),
  );
}

function deployedTable(
  list: readonly DeployedInfo[],
  running: readonly InspectedFunction[],
): string {
  return table(
    ['FUNCTION', 'VERSION', 'SINCE', 'BY', 'BEFORE', 'CANARY'],
    list.map(({ name, version, at, by, previous = '', canary, takenBack }) => {
      const counts = running.find((each) => each.name === name)?.canary;
      let note = takenBack === undefined ? '' : `${takenBack.version} taken back: ${takenBack.why}`;
      if (canary !== undefined) {
        note = `${canary.version} ${canary.share * 100}%`;
        if (counts != null) note += `, ${counts.errors} of ${counts.calls} calls failed`;
      }
      return [name, version, at.slice(0, 19), by, previous, note];
    }),
  );
}

function rollback(program: Command): void {
  withJson(withConnection(program.command('rollback')))
    .summary('have a function run a version that ran before')
    .description(
      'Goes back to the version before, or to the one that is named. A canary is taken back.',
    )
    .argument('<function>', 'its name')
    .argument('[version]', 'as versions has it, or its beginning')
    .action(async (name: string, version: string | undefined, flags: Flags) => {
      await using mill = await connect(await connectOptions(flags));
      said(await mill.deploys.rollback(name, version), flags);
    });
}

function promote(program: Command): void {
  withJson(withConnection(program.command('promote')))
    .summary('give a canary all calls')
    .argument('<function>', 'its name')
    .action(async (name: string, flags: Flags) => {
      await using mill = await connect(await connectOptions(flags));
      said(await mill.deploys.promote(name), flags);
    });
}

function remove(program: Command): void {
  withJson(withConnection(program.command('remove')))
    .summary('have no worker run a deployed function any more')
    .description(
      'Its versions, its state and the events that wait for it stay; deployed again, it goes on with them.',
    )
    .argument('<function>', 'its name')
    .action(async (name: string, flags: Flags) => {
      await using mill = await connect(await connectOptions(flags));
      const result = await mill.deploys.remove(name);
      if (flags.json) printJson(result);
      else print(`${name} is not deployed any more; it was version ${result.from}`);
    });
}

function said(result: RollbackResult, flags: Flags): void {
  const { function: name, version, from, workers } = result;
  if (flags.json) printJson(result);
  else print(`${name} runs version ${version} instead of ${from} on ${workers} workers`);
}

const PERCENT = /^(\d+(?:\.\d+)?)%$/;

/** For commander: a share such as 10%. */
function share(text: string): number {
  const [, percent] = PERCENT.exec(text) ?? [];
  const value = Number(percent) / 100;
  if (value > 0 && value < 1) return value;
  throw new InvalidArgumentError(
    'It must be a share of the calls such as 10%, above 0% and below 100%.',
  );
}
