/** House rules that a test can check. Comments and strings are left out where they could be mistaken for code. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));
const MAX_LINES = 450;
/** What runs in a browser, and what it is shown with. */
const PAGE = 'gateway/dashboard/';
const PAGE_FILE = /^(?:[a-z0-9]+(-[a-z0-9]+)*\.(?:ts|tsx|css|html|svg)|tsconfig\.json)$/;

interface Import {
  from: string;
  /** As written. */
  specifier: string;
  typeOnly: boolean;
  names: string[];
}

const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => posix.join(posix.relative(SRC, entry.parentPath), entry.name))
  .sort();
const textOf = new Map(files.map((file) => [file, readFileSync(posix.join(SRC, file), 'utf8')]));

const STATEMENT = /^(?:import|export)\s+(type\s+)?([^;'"]*?)\s*from\s+['"]([^'"]+)['"]/gm;
const BARE = /^import\s+['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

function importsOf(file: string): Import[] {
  // Examples in comments import, too.
  const text = codeOf(file);
  const named = [...text.matchAll(STATEMENT)].map(([, type, what = '', specifier = '']) => {
    const names = what
      .replace(/[{}]/g, '')
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '');
    const typeOnly = type !== undefined || names.every((name) => name.startsWith('type '));
    return { from: file, specifier, typeOnly, names };
  });
  const bare = [...text.matchAll(BARE)].map(([, first, second]) => ({
    from: file,
    specifier: first ?? second ?? '',
    typeOnly: false,
    names: [],
  }));
  return [...named, ...bare];
}

/** Code without comments; strings stay. */
function codeOf(file: string): string {
  return (textOf.get(file) ?? '').replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
}

const imports = files.flatMap(importsOf);
const relatives = imports.filter(({ specifier }) => specifier.startsWith('.'));
const targetOf = ({ from, specifier }: Import): string =>
  posix.normalize(posix.join(posix.dirname(from), specifier));
const roomOf = (file: string): string =>
  file.includes('/') ? file.slice(0, file.indexOf('/')) : '';
const shown = (one: Import): string =>
  `${one.from} imports ${one.typeOnly ? 'types' : 'values'} of ${targetOf(one)}`;

type Rule = (one: Import, target: string) => boolean;
const any: Rule = () => true;
const typesOnly: Rule = ({ typeOnly }) => typeOnly;
/** Which rooms each room may import of, and how. '' is index.ts. One direction: nothing imports upwards. */
const MAY_IMPORT: Record<string, Record<string, Rule> | 'all'> = {
  core: {},
  // OpenTelemetry and Prometheus; knows nothing of functions or NATS.
  telemetry: { core: any },
  bus: { core: any },
  function: { core: any, bus: typesOnly },
  cache: { core: any, bus: any, function: any },
  // Of deliveries: which versions may run side by side.
  deploy: {
    core: any,
    bus: any,
    function: any,
    delivery: (_, target) => target === 'delivery/identity.ts',
  },
  client: { core: any, bus: any, function: any, cache: any, telemetry: any, deploy: any },
  state: { core: any, bus: any, function: typesOnly },
  delivery: { core: any, bus: any, function: any, state: any },
  worker: {
    core: any,
    bus: any,
    function: any,
    cache: any,
    state: any,
    delivery: any,
    deploy: any,
    telemetry: any,
    client: ({ names }, target) =>
      target === 'client/client.ts' &&
      names.every((name) => /^(openBus|settingsOf|type .*)$/.test(name)),
  },
  backup: {
    core: any,
    bus: any,
    // How an emitted event is written, and where keys lie.
    state: (_, target) => target === 'state/outbox.ts' || target === 'state/rings.ts',
    delivery: (_, target) => ['delivery/cursors.ts', 'delivery/cron-tail.ts'].includes(target),
  },
  gateway: { core: any, bus: any, function: typesOnly, client: any, telemetry: any },
  broker: { core: any },
  dev: {
    broker: any,
    core: any,
    worker: ({ typeOnly }, target) => typeOnly && target === 'worker/supervision.ts',
  },
  doctor: { core: any, bus: any, state: (_, target) => target === 'state/fits.ts' },
  // A test's own system: what dev starts, and a client.
  testing: {
    core: any,
    broker: any,
    client: any,
    bus: any,
    dev: (_, target) => target === 'dev/worker-process.ts',
  },
  cli: 'all',
  '': 'all',
};

describe('src', () => {
  it('was read', () => {
    expect(files.length).toBeGreaterThan(40);
    expect(relatives.length).toBeGreaterThan(100);
  });

  it('has only rooms that the layers know', () => {
    expect(files.filter((file) => MAY_IMPORT[roomOf(file)] === undefined)).toEqual([]);
  });

  it('imports in one direction', () => {
    const wrong = relatives.filter((one) => {
      const target = targetOf(one);
      const [from, to] = [roomOf(one.from), roomOf(target)];
      const allowed = MAY_IMPORT[from];
      if (from === to || allowed === 'all') return false;
      return allowed?.[to]?.(one, target) !== true;
    });
    expect(wrong.map(shown)).toEqual([]);
  });

  it('imports files that exist, by names that end in .ts or .tsx', () => {
    const wrong = relatives.filter(
      (one) => !/\.tsx?$/.test(one.specifier) || !textOf.has(targetOf(one)),
    );
    expect(wrong.map(shown)).toEqual([]);
  });

  it(`has no file of more than ${MAX_LINES} lines`, () => {
    const long = files.filter(
      (file) => (textOf.get(file) ?? '').trimEnd().split('\n').length > MAX_LINES,
    );
    expect(long).toEqual([]);
  });

  it('has file names in kebab-case', () => {
    const wrong = files.filter(
      (file) =>
        basename(file) !== 'SPEC.md' &&
        !(file.startsWith(PAGE) ? PAGE_FILE : /^[a-z0-9]+(-[a-z0-9]+)*\.ts$/).test(basename(file)),
    );
    expect(wrong).toEqual([]);
  });

  it('has a page that takes nothing but the core into the browser, and is taken by nobody', () => {
    const isPage = (file: string): boolean => file.startsWith(PAGE);
    const wrong = imports.filter((one) => {
      if (one.typeOnly || !isPage(one.from)) return false;
      if (!one.specifier.startsWith('.')) return !/^preact(?:\/hooks)?$/.test(one.specifier);
      return !isPage(targetOf(one)) && roomOf(targetOf(one)) !== 'core';
    });
    const taken = relatives.filter((one) => !isPage(one.from) && isPage(targetOf(one)));
    expect([...wrong, ...taken].map(shown)).toEqual([]);
  });

  it('has no to-do list', () => {
    const wrong = files.filter((file) => /\b(TODO|FIXME|XXX)\b/.test(textOf.get(file) ?? ''));
    expect(wrong).toEqual([]);
  });

  it('writes nothing to the console', () => {
    expect(files.filter((file) => codeOf(file).includes('console.'))).toEqual([]);
  });

  it('reads the environment only in the client, the broker, the command line and the testing kit', () => {
    const wrong = files.filter(
      (file) =>
        file !== 'client/client.ts' &&
        !['broker', 'cli', 'testing'].includes(roomOf(file)) &&
        /\bprocess\s*\.\s*env\b/.test(codeOf(file)),
    );
    expect(wrong).toEqual([]);
  });
});

describe('the core', () => {
  const core = files.filter((file) => roomOf(file) === 'core');

  it('does no I/O: of node it imports buffers and checksums only', () => {
    const wrong = imports.filter(
      ({ from, specifier }) =>
        roomOf(from) === 'core' &&
        !['node:buffer', 'node:zlib'].includes(specifier) &&
        (specifier.startsWith('node:') ||
          /^(fs|net|http|https|child_process|timers|tls|dgram|os|worker_threads|nats|pino)\b/.test(
            specifier,
          )),
    );
    expect(wrong.map(({ from, specifier }) => `${from} imports ${specifier}`)).toEqual([]);
  });

  it.each([
    ['Date.now', /\bDate\s*\.\s*now\b/],
    ['new Date()', /\bnew\s+Date\s*\(\s*\)/],
    ['performance.now', /\bperformance\b/],
    ['Math.random', /\bMath\s*\.\s*random\b/],
    ['crypto', /\bcrypto\b/],
    ['timers', /\bset(Timeout|Interval|Immediate)\b/],
    ['process', /\bprocess\s*\./],
  ])('is given its time and chance, it has no %s', (_, pattern) => {
    expect(core.filter((file) => pattern.test(codeOf(file)))).toEqual([]);
  });
});
