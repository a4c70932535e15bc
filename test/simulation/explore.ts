/** `npx tsx test/simulation/explore.ts FIRST COUNT`: many seeds, prints what is wrong with which. */
import { run } from './run.ts';

const [first = '1', count = '100', stop] = process.argv.slice(2);
const started = performance.now();
let committed = 0;
let bad = 0;
for (let seed = Number(first); seed < Number(first) + Number(count); seed += 1) {
  const result = await run(seed);
  committed += result.committed;
  if (result.problems.length > 0) {
    bad += 1;
    process.stdout.write(
      `seed ${seed}: ${result.problems.slice(0, 3).join(' | ').slice(0, 500)}\n`,
    );
    if (stop === '--stop') break;
  }
}
const seconds = (performance.now() - started) / 1_000;
process.stdout.write(
  `${count} seeds, ${bad} bad, ${committed} committed, ${seconds.toFixed(1)} s\n`,
);
