/** The dashboard in a real browser, at a real gateway with keys, with workers in processes of their own. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect, type Mill } from 'millrace';
import { makeKey } from '../../src/gateway/keys.ts';
import { startTestBroker, type TestBroker } from '../support/broker.ts';
import { findChromium, launchChromium } from '../support/chromium.ts';
import { Command, millrace } from '../support/cli.ts';
import { until } from '../support/wait.ts';

const FUNCTIONS = fileURLToPath(new URL('../fixtures/dashboard', import.meta.url));
const OUTPUT = fileURLToPath(new URL('../../test-output/dashboard', import.meta.url));
const VIEWS = [
  'overview',
  'workers',
  'functions',
  'ring',
  'transactions',
  'traces',
  'dead',
  'deploys',
  'state',
];
const HOSTILE = '<img src=x onerror="window.hacked=1">';
const WIDE = { width: 1280, height: 800 };
const PHONE = { width: 360, height: 740 };

const admin = makeKey('admin', ['admin']);
const reader = makeKey('reader', ['inspect']);

let broker: TestBroker;
let folder: string;
let mill: Mill;
let url: string;
let browser: Browser;
let gateway: Command;
const workers: Command[] = [];
/** What the page has complained of: scripts that fail, and what its policy forbids. */
const complaints: string[] = [];

async function startWorker(): Promise<Command> {
  const worker = new Command(['worker', '--server', broker.url, '--functions', FUNCTIONS]);
  workers.push(worker);
  await worker.says('is ready');
  return worker;
}

async function open(view = '', key = admin.key, viewport = WIDE): Promise<Page> {
  const page = await browser.newPage({ viewport, reducedMotion: 'reduce' });
  page.setDefaultTimeout(60_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes('status of 401'))
      complaints.push(message.text());
  });
  // As if it had signed in before.
  if (key !== '')
    await page.addInitScript((given) => sessionStorage.setItem('millrace-key', given), key);
  await page.goto(`${url}/#${view}`);
  if (key !== '') await page.getByRole('navigation', { name: 'Views' }).waitFor();
  return page;
}

const deploy = async (answer: string): Promise<void> => {
  const source = `import { defineFunction } from 'millrace';
export default defineFunction({ name: 'greet', handler: () => ${JSON.stringify(answer)} });`;
  await writeFile(join(folder, 'deploy', 'greet.ts'), source);
  const { status, stderr } = await millrace(
    'deploy',
    join(folder, 'deploy'),
    '--server',
    broker.url,
  );
  expect(stderr).toBe('');
  expect(status).toBe(0);
};

async function show(page: Page, view: string): Promise<void> {
  await page.evaluate((id) => (location.hash = id), view);
  await page.locator(`nav a[href="#${view}"][aria-current=page]`).waitFor();
  await until('it has loaded', async () => (await page.locator('.skeleton').count()) === 0, 20_000);
}

const widerThanItsWindow = (page: Page): Promise<number> =>
  page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

/** WCAG 2.2 to level AA, and what is held to be good beside it. */
const ALL_RULES = axe
  .getRules(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'])
  .filter(({ tags }) => !tags.includes('experimental'))
  .map(({ ruleId }) => ruleId);

/** The page must have `axe` already. */
const findingsOfAxe = (page: Page, rules: readonly string[]): Promise<string[]> =>
  page.evaluate(
    async (runOnly) => {
      if (runOnly.length === 0) return [];
      const { axe: page } = globalThis as unknown as { axe: typeof axe };
      const { violations } = await page.run({ runOnly });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
    },
    [...rules],
  );

/** What a cell of a row says. */
const cell = async (page: Page, row: string, column: string): Promise<string> => {
  const titles = await page.locator('main thead th').allInnerTexts();
  const at = titles.findIndex((title) => title.trim().replace(/[↑↓]\s*|\s*[↑↓]/, '') === column);
  return page.getByRole('row').filter({ hasText: row }).locator('td').nth(at).innerText();
};

describe.skipIf(findChromium() === undefined)('the dashboard', { timeout: 180_000 }, () => {
  beforeAll(async () => {
    broker = await startTestBroker();
    folder = await mkdtemp(join(tmpdir(), 'millrace-dashboard-'));
    await mkdir(join(folder, 'deploy'));
    await mkdir(OUTPUT, { recursive: true });
    const keys = join(folder, 'keys.json');
    await writeFile(keys, JSON.stringify({ keys: [admin.record, reader.record] }));
    await Promise.all([startWorker(), startWorker()]);
    gateway = new Command(['gateway', '--server', broker.url, '--port', '0', '--keys', keys]);
    await gateway.says('the gateway is at ');
    url = /http:\/\/[\d.]+:\d+/.exec(gateway.stdout + gateway.stderr)?.[0] ?? '';
    mill = await connect({ servers: broker.url });
    browser = await launchChromium();
    await mill.publish('board.parcel', { to: HOSTILE });
    await mill.invoke('store', {
      collection: 'orders',
      items: [
        ['last', 0],
        [HOSTILE, { note: '<script>window.hacked=2</script>' }],
        ...Array.from({ length: 60 }, (_, at): [string, unknown] => [
          `key-${String(at).padStart(2, '0')}`,
          at,
        ]),
      ],
    });
    await deploy('hello');
    await deploy('good day');
    await until('the parcel is dead', async () => (await mill.dead.list()).length === 1);
  }, 90_000);
  afterEach(async () => {
    for (const context of browser.contexts()) await context.close();
  });
  afterAll(async () => {
    await browser?.close();
    await mill?.close();
    await gateway?.end();
    await Promise.all(workers.map(async (worker) => worker.end()));
    await broker?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it('is at /, and lets in who has a key, which stays out of addresses', async () => {
    const page = await open('', '');
    expect(page.url()).toBe(`${url}/dashboard/`);
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    await page.getByLabel('API key').fill('mr_wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    expect(await page.getByRole('alert').innerText()).toContain('UNAUTHORIZED');
    await page.getByLabel('API key').fill(admin.key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Needs attention' }).waitFor();
    await page.reload();
    await page.getByRole('heading', { name: 'Needs attention' }).waitFor();
    expect(asked.filter((each) => each.includes(admin.key))).toEqual([]);
    expect(asked.filter((each) => !each.startsWith(url))).toEqual([]);
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
  });

  it('shows numbers that move by themselves, and asks nothing while it is paused or hidden', async () => {
    const page = await open('functions');
    await page.getByRole('link', { name: 'price' }).waitFor();
    const before = Number(await cell(page, 'price', 'Calls'));
    await mill.invoke('price', {});
    await until(
      'the call is counted',
      async () => Number(await cell(page, 'price', 'Calls')) === before + 1,
    );
    await page.keyboard.press('p');
    await page.getByText('Paused').waitFor();
    await page.keyboard.press('p');
    await page.getByText('Live', { exact: true }).waitFor();
    let asked = 0;
    const other = await open('functions');
    other.on('request', () => (asked += 1));
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await page.getByText('Paused').waitFor();
    let hidden = 0;
    page.on('request', () => (hidden += 1));
    await until('the other page has asked again and again', () => asked >= 3);
    expect(hidden).toBe(0);
  });

  it('filters and sorts', async () => {
    const page = await open('functions');
    const names = page.locator('main tbody td:first-child a');
    await page.getByRole('link', { name: 'price' }).waitFor();
    await page.getByRole('columnheader', { name: 'Function' }).getByRole('button').click();
    const ascending = await names.allInnerTexts();
    expect(ascending).toEqual(ascending.toSorted());
    expect(ascending.length).toBeGreaterThan(5);
    await page.getByRole('columnheader', { name: 'Function' }).getByRole('button').click();
    expect(await names.allInnerTexts()).toEqual(ascending.toReversed());
    expect(
      await page.getByRole('columnheader', { name: 'Function' }).getAttribute('aria-sort'),
    ).toBe('descending');
    await page.getByLabel('Filter functions').fill('board.pa');
    await until(
      'the others are gone',
      async () => (await names.allInnerTexts()).join() === 'strike,pay',
    );
    await page.getByLabel('Filter functions').fill('nothing of the kind');
    await page.getByText('No function matches the filter').waitFor();
  });

  it('draws an event’s way through functions', async () => {
    const page = await open('traces');
    await page.getByText('Waiting for the next event').waitFor();
    await mill.publish('board.order', { id: 1 });
    const row = page.getByRole('row').filter({ hasText: 'board.order' }).filter({ hasText: '4' });
    await row.getByRole('link').click();
    const lines = page.locator('.waterfall tbody tr');
    await until('all runs are there', async () => (await lines.count()) === 4);
    expect((await lines.locator('th').allInnerTexts()).map((text) => text.trim())).toEqual([
      'order',
      'price',
      'pay',
      'mail',
    ]);
    const depths = await lines
      .locator('th button')
      .evaluateAll((all) =>
        all.map((each) => (each as HTMLElement).style.getPropertyValue('--depth')),
      );
    expect(depths).toEqual(['0', '1', '1', '2']);
    expect(await lines.first().locator('td').first().innerText()).toMatch(
      /waited .*handler .*commit/s,
    );
    await page.getByRole('button', { name: 'pay' }).click();
    await page.getByText('board.mail after').waitFor();
    await page.screenshot({ path: join(OUTPUT, 'waterfall.png') });
  });

  it('browses state by pages, and takes hostile keys and values for text', async () => {
    const page = await open('state');
    await page.getByLabel('Collection').selectOption('orders');
    await page.getByText('1 to 50').waitFor();
    await page.getByRole('button', { name: HOSTILE }).click();
    await page.getByRole('heading', { name: `orders/${HOSTILE}` }).waitFor();
    expect(await page.getByRole('region', { name: 'Value', exact: true }).innerText()).toContain(
      '<script>window.hacked=2</script>',
    );
    await page.screenshot({ path: join(OUTPUT, 'state-hostile.png') });
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('51 to 62').waitFor();
    await page.getByRole('button', { name: 'Previous' }).click();
    await page.getByText('1 to 50').waitFor();
    await page.getByLabel('Keys that begin with').fill('key-1');
    await page.getByText('1 to 10', { exact: true }).waitFor();
    expect(
      await page.evaluate(() => [
        document.querySelector('main img'),
        (window as { hacked?: number }).hacked,
      ]),
    ).toEqual([null, undefined]);
  });

  it('offers a key that may only look no more than that, and says why', async () => {
    const page = await open('dead', reader.key);
    const replay = page
      .getByRole('button', { name: /^Replay dead letter \d+: This key has no scope operate/ })
      .first();
    expect(await replay.getAttribute('aria-disabled')).toBe('true');
    await replay.click({ force: true });
    await page.getByText('This key may look, and not act').waitFor();
    expect(await mill.dead.list()).toHaveLength(1);
    const refused = await page.evaluate(async (given) => {
      const headers = { Authorization: `Bearer ${given}` };
      return (await fetch('../api/dead/1/replay', { method: 'POST', headers })).status;
    }, reader.key);
    expect(refused).toBe(403);
    // The refusal that was just asked for.
    complaints.splice(
      0,
      complaints.length,
      ...complaints.filter((each) => !each.includes('status of 403')),
    );
  });

  // Colours are all that a theme changes, and on a phone it is the same page.
  it.each([
    ['dark', 'dark', WIDE, ALL_RULES],
    ['light', 'light', WIDE, ['color-contrast']],
    ['phone', 'dark', PHONE, []],
  ] as const)(
    'has no view that is too wide, or that axe finds something in: %s',
    async (name, colorScheme, viewport, rules) => {
      const page = await open('', admin.key, viewport);
      await page.evaluate(axe.source);
      await page.emulateMedia({ colorScheme });
      for (const view of VIEWS) {
        await show(page, view);
        expect.soft(await widerThanItsWindow(page), view).toBe(0);
        expect.soft(await findingsOfAxe(page, rules), view).toEqual([]);
        const fullPage = viewport === PHONE;
        await page.screenshot({ path: join(OUTPUT, `${view}-${name}.png`), fullPage });
      }
    },
  );

  it('turns dark and light by itself and by hand', async () => {
    const page = await open();
    const ground = (): Promise<string> =>
      page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await ground();
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await ground();
    expect(dark).not.toBe(light);
    await page.keyboard.press('t');
    await until('it is dark by hand', async () => (await ground()) === dark);
    await page.reload();
    await until('it is remembered', async () => (await ground()) === dark);
  });

  it('can be used by keys alone', async () => {
    const page = await open();
    const focused = (): Promise<string> =>
      page.evaluate(() => document.activeElement?.textContent ?? '');
    await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
    await page.keyboard.press('3');
    await until('functions are there', async () => (await focused()) === 'Functions');
    await page.keyboard.press('ArrowLeft');
    await until('workers are there', async () => (await focused()) === 'Workers');
    await page.keyboard.press('ArrowRight');
    await page.getByRole('link', { name: 'price' }).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('price');
    await until(
      'only one is left',
      async () => (await page.locator('main tbody tr').count()) === 1,
    );
    for (let tabs = 0; (await focused()) !== 'price' && tabs < 20; tabs += 1)
      await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'price' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('heading', { name: 'price' }).waitFor({ state: 'detached' });
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    expect(new URL(page.url()).hash).toBe('#functions');
  });

  it('replays a dead letter, and drops one only when that is confirmed', async () => {
    await mill.publish('board.parcel', 'unwanted');
    await until('there are two', async () => (await mill.dead.list()).length === 2);
    const [first, second] = (await mill.dead.list()).map(({ number }) => number);
    const page = await open('dead');
    await page.getByRole('link', { name: `Dead letter ${first}` }).click();
    expect(await page.getByRole('region', { name: 'Error of attempt 1' }).innerText()).toContain(
      '<b>no</b> post today',
    );
    await page.screenshot({ path: join(OUTPUT, 'dead-letter.png') });
    await page.getByRole('button', { name: `Drop dead letter ${second}`, exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    expect(await mill.dead.list()).toHaveLength(2);
    await page.getByRole('button', { name: `Drop dead letter ${second}`, exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drop it' }).click();
    await until('it is dropped', async () => (await mill.dead.list()).length === 1);
    await mill.invoke('store', { collection: 'strike', items: [['over', true]] });
    await page.getByRole('button', { name: `Replay dead letter ${first}`, exact: true }).click();
    await page.getByText(`Dead letter ${first} is handled by strike again.`).waitFor();
    await until('it was handled', async () =>
      mill.inspect.state('sent', 'parcel').then(
        () => true,
        () => false,
      ),
    );
    await page.getByText('No dead letters').waitFor();
  });

  it('rolls a deploy back when that is confirmed', async () => {
    const page = await open('deploys');
    expect(await mill.invoke('greet', {})).toBe('good day');
    await page.getByRole('button', { name: 'Roll back greet' }).click();
    await page.screenshot({ path: join(OUTPUT, 'rollback.png') });
    await page.getByRole('dialog').getByRole('button', { name: 'Roll back' }).click();
    await page.getByText(/greet runs [0-9a-f]{12} on 2 workers/).waitFor();
    expect(await mill.invoke('greet', {})).toBe('hello');
  });

  it('shows how partitions move when a worker leaves', async () => {
    const page = await open('ring');
    await page.getByText(/partitions over 2 workers/).waitFor();
    const [leaving] = workers.splice(1, 1);
    await leaving?.end();
    await page.getByText(/partitions over 1 worker$/).waitFor();
    const moved = page.locator('.moves li');
    await until('moves are told', async () => (await moved.count()) > 0);
    expect(await moved.first().innerText()).toMatch(/Partition \d+/);
    await page.screenshot({ path: join(OUTPUT, 'ring-moved.png') });
  });

  it('loads nothing of others, and its scripts and its policy have nothing to complain of', async () => {
    const response = await fetch(`${url}/dashboard/`);
    expect(response.headers.get('content-security-policy')).toContain(
      "default-src 'none'; script-src 'self'",
    );
    expect(await response.text()).not.toMatch(/<script(?![^>]* src="app\.js")|\son\w+=|style=/);
    expect(complaints).toEqual([]);
  });
});
