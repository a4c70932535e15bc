import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** Whole systems for a minute each: `npm run test:long`, beside `npm test`. */
const LONG = [
  'test/browser/dashboard.test.ts',
  'test/chaos/backup.test.ts',
  'test/chaos/cache.test.ts',
  'test/chaos/events.test.ts',
  'test/chaos/poison.test.ts',
  'test/chaos/power.test.ts',
  'test/chaos/servers.test.ts',
  'test/e2e/faults.test.ts',
  'test/e2e/scale.test.ts',
  'test/e2e/signed-deploys.test.ts',
  'test/e2e/upgrade.test.ts',
  'test/integration/cron.test.ts',
  'test/integration/event-versions.test.ts',
  'test/integration/handover.test.ts',
  'test/simulation/planted.test.ts',
];
/** They have more under it: test/support/long.ts. */
const PARTLY_LONG = [
  'test/chaos/chaos.test.ts',
  'test/e2e/command-line.test.ts',
  'test/e2e/deploy.test.ts',
  'test/e2e/dev.test.ts',
  'test/e2e/telemetry.test.ts',
  'test/e2e/workers.test.ts',
  'test/integration/abuse.test.ts',
  'test/integration/cluster.test.ts',
  'test/integration/gateway-hostile.test.ts',
  'test/integration/event-faults.test.ts',
  'test/integration/later.test.ts',
  'test/integration/tls.test.ts',
  'test/simulation/simulation.test.ts',
];
/** `npm run test:chaos`: all of them, each for as long as one likes. */
const CHAOS = ['test/chaos/*.test.ts'];
const given = process.env['TESTS'];

export default defineConfig({
  resolve: { alias: { millrace: fileURLToPath(new URL('src/index.ts', import.meta.url)) } },
  test: {
    include:
      given === 'long'
        ? [...LONG, ...PARTLY_LONG]
        : given === 'chaos'
          ? CHAOS
          : ['test/**/*.test.ts'],
    // Files beside sample functions, which the loader must leave alone.
    exclude: ['test/fixtures/**', ...(given === undefined ? LONG : [])],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores are the floor this suite is planned for; each file may start a broker and workers.
    maxWorkers: 2,
    typecheck: { enabled: false },
  },
});
