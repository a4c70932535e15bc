/** A real browser for tests of the dashboard: the system's Chromium, nothing is downloaded. */
import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Undefined where there is none. `CHROMIUM_BIN` names another place. */
export function findChromium(): string | undefined {
  return [process.env['CHROMIUM_BIN'] ?? '', ...PLACES].find(
    (path) => path !== '' && existsSync(path),
  );
}

/** What is to be said where there is none; undefined where there is one. In CI that is a failure. */
export function assertChromium(): string | undefined {
  if (findChromium() !== undefined) return undefined;
  const how = 'install Chromium (Debian: apt-get install chromium) or name it in CHROMIUM_BIN';
  if (process.env['CI'] === 'true') throw new Error(`There is no browser for tests: ${how}.`);
  return `Tests in a browser are skipped: ${how}.`;
}

export async function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: findChromium() ?? '',
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
