/** The dashboard's page: one script, one style sheet, and what is sent as it is. The types are checked by `npm run types`. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const from = fileURLToPath(new URL('../src/gateway/dashboard/', import.meta.url));
const to = fileURLToPath(new URL('../dist/gateway/dashboard/', import.meta.url));

mkdirSync(to, { recursive: true });
for (const name of ['index.html', 'icon.svg']) copyFileSync(`${from}${name}`, `${to}${name}`);
await build({
  entryPoints: { app: `${from}app.tsx`, style: `${from}style.css` },
  outdir: to,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome123', 'firefox121', 'safari17.5'],
  legalComments: 'none',
  logLevel: 'warning',
});
