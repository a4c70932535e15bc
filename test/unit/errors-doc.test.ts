import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { ERROR_REGISTRY } from '../../src/core/errors.ts';

/** `| `CODE` | status or – | yes/no | meaning |`; one line for each code. */
const ROW = /^\|\s*`([A-Z_]+)`\s*\|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|$/gm;

it('docs/errors.md and the registry have the same codes, statuses and defaults', async () => {
  const text = await readFile(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(ROW)].map(([, code = '', status = '', retryable = '']) => [
    code,
    { status, retryable },
  ]);
  const wanted = Object.entries(ERROR_REGISTRY).map(([code, { status, retryable }]) => [
    code,
    { status: status === 0 ? '–' : String(status), retryable: retryable ? 'yes' : 'no' },
  ]);
  expect(rows).toHaveLength(wanted.length);
  expect(Object.fromEntries(rows)).toEqual(Object.fromEntries(wanted));
});

it('docs/errors.md says what every code means', async () => {
  const text = await readFile(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const meanings = new Map([...text.matchAll(ROW)].map((row) => [row[1], row[4] ?? '']));
  for (const code of Object.keys(ERROR_REGISTRY)) {
    expect(meanings.get(code)?.length, code).toBeGreaterThan(10);
  }
});
