/** Of a plan that fails makes a smaller one that fails, and tells its story. */
import { CALM, planOf, type Plan } from './plan.ts';
import { run, type RunResult } from './run.ts';

const MAX_RUNS = 500;
const MAX_MS = 60_000;
/** Other chances for a smaller plan: the seed that was unlucky with the larger one need not be so with it. */
const SEEDS = 5;
const NEXT_SEED = 1_000_003;
const MAX_LINES = 400;
const SIZES = [
  'operations',
  'accidents',
  'clients',
  'keys',
  'nodes',
  'partitions',
  'changes',
] as const;
const LEAST: Partial<Record<keyof Plan, number>> = { accidents: 0, nodes: 2, changes: 0 };

/** A run that throws has found something, too. */
async function resultOf(
  plan: Plan,
  onTrace?: (line: string) => void,
): Promise<Pick<RunResult, 'problems' | 'history'>> {
  try {
    return await run(plan, onTrace);
  } catch (error) {
    return { problems: [`the run broke: ${(error as Error).stack}`], history: [] };
  }
}

/** Fewer operations first: a run is the same up to where the last one ends. */
export async function shrink(failing: Plan): Promise<Plan> {
  let best = failing;
  let runs = 0;
  const endMs = performance.now() + MAX_MS;
  const tired = (): boolean => runs >= MAX_RUNS || performance.now() >= endMs;
  const fails = async (change: Partial<Plan>): Promise<boolean> => {
    for (let other = 0; other < SEEDS; other += 1) {
      if (tired()) return false;
      runs += 1;
      const candidate = { ...best, ...change, seed: best.seed + other * NEXT_SEED };
      if ((await resultOf(candidate)).problems.length === 0) continue;
      best = candidate;
      return true;
    }
    return false;
  };
  for (let again = true; again && !tired();) {
    again = false;
    for (const name of SIZES) {
      const least = LEAST[name] ?? 1;
      for (let step = best[name] - least; step >= 1; step = Math.floor(step / 2)) {
        while (best[name] - step >= least && (await fails({ [name]: best[name] - step }))) {
          again = true;
        }
      }
    }
    for (const [name, value] of Object.entries(CALM)) {
      if (best[name as keyof Plan] !== value && (await fails({ [name]: value }))) again = true;
    }
  }
  return best;
}

/** What is wrong under the seed, in the smallest run that shows it, and how to see it again. */
export async function report(seed: number): Promise<string> {
  const plan = await shrink(planOf(seed));
  return `seed ${seed} fails; again with: npm run test:soak -- --from ${seed} --seeds 1\n${await story(plan)}`;
}

export async function story(plan: Plan): Promise<string> {
  const lines: string[] = [];
  const { problems, history } = await resultOf(plan, (line) => lines.push(line));
  const left = lines.length - MAX_LINES;
  if (left > 0) lines.splice(MAX_LINES / 2, left, `… ${left} lines …`);
  return [
    ...problems,
    '',
    `The shortest run: npm run test:soak -- --plan '${JSON.stringify(plan)}'`,
    ...history.map((operation) => JSON.stringify(operation)),
    '',
    ...lines,
  ].join('\n');
}
