import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { note } from './print.ts';
import { stopProcess } from './stop-process.ts';
import { within } from './within.ts';

const INSTALL_MS = 180_000;
const folder = fileURLToPath(new URL('./peers/', import.meta.url));

/**
 * Installs what only the benchmarks need, on first use. Without it those rows say so and the run goes on. Moleculer
 * names Node 22 in its `engines` and runs on 20, so that a strict setting of the user's is switched off.
 */
export async function installPeers(): Promise<void> {
  const there = (name: string): boolean => existsSync(`${folder}node_modules/${name}/package.json`);
  if (['moleculer', 'pg', 'pg-boss'].every(there)) return;
  note('bench/peers: npm ci (once)');
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--engine-strict=false'];
  const npm = spawn('npm', ['ci', '--loglevel=error', ...flags], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    npm.once('exit', resolve).once('error', reject);
  });
  try {
    const code = await within(ended, INSTALL_MS, 'npm ci');
    if (code !== 0) note(`bench/peers: npm ci failed (${code}), going on without`);
  } catch (error) {
    await stopProcess(npm);
    note(`bench/peers: ${String(error)}, going on without`);
  }
}
