import {
  mkdir,
  mkdtemp,
  readdir,
  realpath,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Context, FunctionEvent } from '../../src/function/context.ts';
import { KEPT_BUILDS } from '../../src/function/builds.ts';
import { findFunctionFiles } from '../../src/function/find.ts';
import { loadFunctions, type LoadOptions } from '../../src/function/load.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FIXTURES = join(ROOT, 'test/fixtures/functions');

let home: string;

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), 'millrace-load-')));
});

afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

/** Writes files below `home`. */
async function files(contents: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(contents)) {
    await mkdir(dirname(join(home, path)), { recursive: true });
    await writeFile(join(home, path), text);
  }
}

function load(options: Partial<LoadOptions> = {}) {
  return loadFunctions({
    directory: 'functions',
    buildDirectory: join(home, 'builds'),
    namespace: 'millrace',
    cwd: home,
    packageEntry: new URL('../../src/function/index.ts', import.meta.url).href,
    ...options,
  });
}

/** A function that gives what the expression is. */
function giving(expression: string, before = ''): string {
  return `import { defineFunction } from 'millrace';\n${before}\nexport default defineFunction({ handler: () => ${expression} });\n`;
}

async function results(loaded: ReturnType<typeof load>): Promise<Record<string, unknown>> {
  const { functions } = await loaded;
  const event = { subject: 'a.b', data: { num1: 2, num2: 3 } } as FunctionEvent;
  const ctx = { invoke: async () => 5 } as unknown as Context;
  const given: [string, unknown][] = [];
  for (const { name, definition } of functions)
    given.push([name, await definition.handler(event, ctx)]);
  return Object.fromEntries(given);
}

describe('a folder of functions', () => {
  it('is loaded with names, versions, subjects and the files it is made of', async () => {
    const { functions, inputs } = await load({ directory: FIXTURES, cwd: ROOT });
    expect(functions.map(({ name, file, subjects }) => ({ name, file, subjects }))).toEqual([
      {
        name: 'charge-card',
        file: 'test/fixtures/functions/billing/charge.mts',
        subjects: ['billing.*.charge', 'billing.charge'],
      },
      { name: 'plain', file: 'test/fixtures/functions/plain.js', subjects: [] },
      { name: 'sum', file: 'test/fixtures/functions/sum.ts', subjects: ['demo.sum'] },
    ]);
    for (const { version } of functions) expect(version).toMatch(/^[0-9a-f]{12}$/);
    expect(functions.map(({ definition }) => definition.name)).toEqual([
      'charge-card',
      'plain',
      'sum',
    ]);
    expect(inputs).toEqual(
      ['_math.ts', 'billing/charge.mts', 'plain.js', 'sum.ts'].map((name) => join(FIXTURES, name)),
    );
  });

  it('has functions that run, with what they import', async () => {
    expect(await results(load({ directory: FIXTURES, cwd: ROOT }))).toEqual({
      'charge-card': { subject: 'a.b', total: 6 },
      plain: 'plain',
      sum: 5,
    });
  });

  it('is searched for sources only, without tests, helpers, types and dependencies', async () => {
    const taken = ['a.ts', 'b.mts', 'c.js', 'd.mjs', 'deep/er/e.ts'];
    const skipped = [
      '_h.ts',
      '.x.ts',
      'a.test.ts',
      'a.spec.js',
      't.d.ts',
      't.d.mts',
      'x.json',
      'x.cjs',
    ];
    const inside = ['_h/a.ts', '.git/a.js', 'node_modules/x/a.js'];
    const all = [...taken, ...skipped, ...inside].map((name) => [`functions/${name}`, '']);
    await files(Object.fromEntries(all) as Record<string, string>);
    const folder = join(home, 'functions');
    expect(await findFunctionFiles(folder, 'functions')).toEqual(
      taken.map((name) => join(folder, name)),
    );
  });

  it('may consist of links, also of one that goes in a circle', async () => {
    await files({ 'real/a.ts': giving('"linked"') });
    await mkdir(join(home, 'functions'));
    await symlink(join(home, 'real/a.ts'), join(home, 'functions/b.ts'));
    await symlink(join(home, 'functions'), join(home, 'functions/again'));
    await symlink(join(home, 'nowhere'), join(home, 'functions/c.ts'));
    expect(await results(load())).toEqual({ b: 'linked' });
  });

  it('may hold files of one name with different extensions, and needs no package.json', async () => {
    await files({
      'functions/a.ts': giving('1').replace('handler', "name: 'one', handler"),
      'functions/a.js': giving('2').replace('handler', "name: 'two', handler"),
      'package.json': '{"type":"commonjs"}',
    });
    expect(await results(load())).toEqual({ one: 1, two: 2 });
  });
});

describe('what functions import', () => {
  it('is found in the folder first, then in the node_modules of the working directory', async () => {
    await files({
      'functions/a.ts': giving('[near, far]', "import near from 'near'; import far from 'far';"),
      'functions/node_modules/near/index.js': 'export default "near"',
      'project/node_modules/near/index.js': 'export default "wrong"',
      'project/node_modules/far/index.js': 'export default "far"',
    });
    const loaded = load({ directory: '../functions', cwd: join(home, 'project') });
    expect(await results(loaded)).toEqual({ a: ['near', 'far'] });
  });

  it('may be CommonJS that requires parts of Node and asks for its folder', async () => {
    await files({
      'functions/a.ts': giving('dep', "import dep from 'dep';"),
      'node_modules/dep/index.js':
        "module.exports = [typeof require('fs').readFileSync, typeof __dirname, typeof __filename]",
    });
    expect(await results(load())).toEqual({ a: ['function', 'string', 'string'] });
  });

  it('does not take away variables called require and __dirname', async () => {
    const own =
      "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url); const __dirname = 'own';";
    await files({
      'functions/a.ts': giving("[typeof require('node:fs').readFileSync, __dirname]", own),
    });
    expect(await results(load())).toEqual({ a: ['function', 'own'] });
  });

  it('exists once, however many functions share it', async () => {
    const count = "import { counter } from './_counter.ts';";
    await files({
      'functions/_counter.ts': 'export const counter = { value: 0 };',
      'functions/a.ts': giving('++counter.value', count),
      'functions/b.ts': giving('++counter.value', count),
    });
    expect(await results(load())).toEqual({ a: 1, b: 2 });
  });
});

describe('loading again', () => {
  it('gives the new code after an edit, while the old stays usable', async () => {
    await files({ 'functions/a.ts': giving('"old"'), 'functions/b.ts': giving('"same"') });
    const before = await load();
    await files({ 'functions/a.ts': giving('"new"') });
    const after = await load();
    expect(await results(Promise.resolve(before))).toEqual({ a: 'old', b: 'same' });
    expect(await results(Promise.resolve(after))).toEqual({ a: 'new', b: 'same' });
    expect(after.functions[0]?.version).not.toBe(before.functions[0]?.version);
    expect(after.functions[1]?.version).toBe(before.functions[1]?.version);
  });

  it('changes the version when a helper changes', async () => {
    const use = "import { value } from './_value.ts';";
    const helper = (value: number) => ({ 'functions/_value.ts': `export const value = ${value};` });
    await files({
      'functions/a.ts': giving('value', use),
      'functions/b.ts': giving('value', use),
      ...helper(1),
    });
    const before = await load();
    await files(helper(2));
    const after = await load();
    expect(await results(Promise.resolve(after))).toEqual({ a: 2, b: 2 });
    expect(after.functions[1]?.version).not.toBe(before.functions[1]?.version);
  });

  it('gives the very same definitions when nothing has changed', async () => {
    await files({ 'functions/a.ts': giving('1') });
    const [before, after] = [await load(), await load()];
    expect(after.functions[0]?.definition).toBe(before.functions[0]?.definition);
    expect(await readdir(join(home, 'builds'))).toHaveLength(1);
  });

  it('keeps the newest builds and what others have put beside them', async () => {
    await files({ 'builds/notes.txt': 'mine' });
    for (let edit = 0; edit < KEPT_BUILDS + 2; edit += 1) {
      await files({ 'functions/a.ts': giving(String(edit)) });
      expect(await results(load())).toEqual({ a: edit });
      // Older than whatever is built next, on file systems with coarse times as well.
      for (const name of await readdir(join(home, 'builds')))
        await utimes(join(home, 'builds', name), edit + 1, edit + 1);
    }
    const kept = await readdir(join(home, 'builds'));
    expect(kept).toHaveLength(KEPT_BUILDS + 1);
    expect(kept).toContain('notes.txt');
  });

  it('at the same moment from several places gives one complete build', async () => {
    await files({ 'functions/a.ts': giving('1') });
    await Promise.all(Array.from({ length: 4 }, () => load()));
    expect(await readdir(join(home, 'builds'))).toHaveLength(1);
  });

  it('gives versions that do not depend on where millrace and the folder are', async () => {
    const helped = giving('value', "import { value } from './_value.ts';");
    for (const place of ['x', 'far/away/y'])
      await files({
        [`${place}/functions/a.ts`]: helped,
        [`${place}/functions/b.ts`]: helped,
        [`${place}/functions/_value.ts`]: 'export const value = 1;',
        [`${place}/millrace.ts`]: `export * from ${JSON.stringify(join(ROOT, 'src/function/index.ts'))};`,
      });
    const versions = async (place: string) => {
      const packageEntry = new URL(`file://${home}/${place}/millrace.ts`).href;
      const { functions } = await load({ cwd: join(home, place), packageEntry });
      return functions.map(({ version }) => version);
    };
    expect(await versions('x')).toEqual(await versions('far/away/y'));
  });
});

describe('a folder that cannot be used is refused', () => {
  it('when it is missing, empty or a file', async () => {
    await expect(load()).rejects.toThrow('functions: there is no such folder for functions.');
    await files({ 'functions/_only-a-helper.ts': '', file: '' });
    await expect(load()).rejects.toThrow('functions: the folder holds no functions');
    await expect(load({ directory: 'file' })).rejects.toThrow('this is a file');
    await expect(load()).rejects.toMatchObject({ code: 'FUNCTION_LOAD_FAILED' });
  });

  it('when the namespace is not legal', async () => {
    await expect(load({ namespace: 'a.b' })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('when builds cannot be written', async () => {
    await files({ 'functions/a.ts': giving('1'), builds: 'a file' });
    await expect(load()).rejects.toMatchObject({
      code: 'FUNCTION_LOAD_FAILED',
      message: expect.stringContaining('cannot be written') as string,
    });
  });

  it('with 20 failures at most and the number of the others', async () => {
    const broken = Array.from({ length: 23 }, (_, i) => [
      `functions/f${i + 10}.ts`,
      'export default 1;',
    ]);
    await files(Object.fromEntries(broken) as Record<string, string>);
    const refused = await load().catch((thrown: unknown) => thrown as Error);
    const lines = (refused as Error).message.split('\n');
    expect(lines).toHaveLength(21);
    expect(lines[0]).toMatch(/^functions\/f10\.ts: its default export is not a function/);
    expect(lines[20]).toBe('and 3 more');
    expect(refused).toMatchObject({ details: { failures: { length: 20 }, total: 23 } });
  });
});
