/** Each worker is as likely: what a NATS queue group does. */
import type { Candidate, StrategyFactory } from './strategy.ts';

export const random: StrategyFactory = (next) => ({
  pick: (candidates) => candidates[Math.floor(next() * candidates.length)] as Candidate,
});
