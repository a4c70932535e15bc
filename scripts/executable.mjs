/** What `npx millrace` runs in this repository is the compiled file itself: the compiler does not make it executable. */
import { chmodSync } from 'node:fs';

chmodSync(new URL('../dist/cli/main.js', import.meta.url), 0o755);
