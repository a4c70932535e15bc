/**
 * What a user gets: the loader in a process of its own, where Node itself maps stacks to the sources. Under vitest
 * modules and stacks go through its own transformations.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BROKEN = 'test/fixtures/broken';

interface Answer {
  functions?: { name: string; line: number | undefined; threwAt?: string }[];
  code?: string;
  message?: string;
  details?: unknown;
}

const SCRIPT = `
  import { loadFunctions } from ${JSON.stringify(join(ROOT, 'src/function/load.ts'))};
  const { directories, ...options } = JSON.parse(process.argv[1]);
  const answers = {};
  for (const directory of directories) {
    try {
      const { functions } = await loadFunctions({ directory, ...options });
      answers[directory] = { functions: [] };
      for (const { name, definition } of functions) {
        let threwAt;
        try { await definition.handler({ data: {} }, {}); } catch (thrown) { threwAt = thrown.stack.split('\\n')[1]; }
        answers[directory].functions.push({ name, line: definition.definedAt?.line, threwAt });
      }
    } catch (thrown) {
      const { code, message, details } = thrown;
      answers[directory] = { code, message, details };
    }
  }
  process.stdout.write(JSON.stringify(answers), () => process.exit(0));
`;

let answers: Record<string, Answer>;
let builds: string;

beforeAll(async () => {
  builds = await mkdtemp(join(tmpdir(), 'millrace-load-process-'));
  const broken = (await readdir(join(ROOT, BROKEN))).map((name) => `${BROKEN}/${name}`);
  const options = {
    directories: ['test/fixtures/functions', ...broken],
    buildDirectory: builds,
    namespace: 'millrace',
    importTimeoutMs: 1_000,
    packageEntry: new URL('../../src/function/index.ts', import.meta.url).href,
  };
  const flags = ['--import', 'tsx', '--input-type=module', '--eval', SCRIPT];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...flags, JSON.stringify(options)],
    { cwd: ROOT },
  );
  answers = JSON.parse(stdout) as Record<string, Answer>;
});

afterAll(async () => {
  await rm(builds, { recursive: true, force: true });
});

describe('in a process of its own the loader', () => {
  it('loads the functions and knows where each was defined', () => {
    expect(answers['test/fixtures/functions']?.functions).toMatchObject([
      { name: 'charge-card', line: 5 },
      { name: 'plain', line: 3 },
      { name: 'sum', line: 5 },
    ]);
  });

  it("maps the stack of what a handler throws to the user's line", () => {
    const place = answers['test/fixtures/functions']?.functions?.[0]?.threwAt;
    expect(place).toContain('test/fixtures/functions/billing/charge.mts:10:');
  });

  const HELPER = 'name helper files with a leading underscore';
  it.each([
    ['syntax', 'bad.ts:4: Unexpected ";"'],
    ['unresolved', 'bad.ts:2: Could not resolve "there-is-no-such-package"'],
    ['native', 'bad.ts:2: the native add-on ./addon.node cannot be bundled with a function'],
    ['throws', 'bad.ts:8: throws while it is loaded: TypeError: DATABASE_URL is not set'],
    ['throws-in-helper', '_config.ts:8: throws while it is loaded: no configuration'],
    ['missing-export', 'bad.ts:3: throws while it is loaded: SyntaxError: The requested module'],
    ['no-default', `bad.ts: has no default export made by defineFunction; ${HELPER}`],
    [
      'not-a-function',
      `bad.ts: its default export is not a function made by defineFunction; ${HELPER}`,
    ],
    [
      'illegal-definition',
      'bad.ts:7: Function "transfer": there is no option "handlr", perhaps handler is meant.',
    ],
    ['illegal-name', `bad.name.ts:3: the name "bad.name", from the file's name, must be 1 to 64`],
    [
      'same-name',
      `two.ts:3: there are two functions named "two", in ${BROKEN}/same-name/one.ts and ${BROKEN}/same-name/two.ts`,
    ],
    ['same-function', `two.ts: exports the same function as ${BROKEN}/same-function/one.ts`],
    ['reserved', 'bad.ts:5: the subject "millrace.fn.x" lies under "millrace", which is reserved'],
    ['hangs', 'bad.ts: did not finish loading within 1000 ms'],
  ])('refuses %s with %s', (folder, message) => {
    const answer = answers[`${BROKEN}/${folder}`];
    expect(answer?.code).toBe('FUNCTION_LOAD_FAILED');
    expect(answer?.message?.startsWith(`${BROKEN}/${folder}/${message}`), answer?.message).toBe(
      true,
    );
    expect(answer?.message).not.toContain('\n');
  });

  it('tells everything that is wrong at once, one failure a line', () => {
    const failures = [
      { file: `${BROKEN}/several/a.ts`, line: 1, reason: 'throws while it is loaded: first' },
      { file: `${BROKEN}/several/b.ts`, reason: 'throws while it is loaded: second' },
      {
        file: `${BROKEN}/several/c.ts`,
        reason: `its default export is not a function made by defineFunction; ${HELPER}`,
      },
    ];
    const answer = answers[`${BROKEN}/several`];
    expect(answer?.details).toEqual({ failures, total: 3 });
    expect(answer?.message?.split('\n')).toEqual(
      failures.map(
        ({ file, line, reason }) => `${line === undefined ? file : `${file}:${line}`}: ${reason}`,
      ),
    );
  });
});
