import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { alias: { millrace: fileURLToPath(new URL('src/index.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    // Files beside sample functions, which the loader must leave alone.
    exclude: ['test/fixtures/**'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Two cores are the floor this suite is planned for; each file may start a broker and workers.
    maxWorkers: 2,
    typecheck: { enabled: false },
  },
});
