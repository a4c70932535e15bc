/**
 * Starting where JetStream does not serve yet: a cluster that has just started has no leaders for its streams, and workers
 * that make them together on an empty one are in each other's way.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { MillraceError } from '../core/errors.ts';

const START_WITHIN_MS = 20_000;
const START_AGAIN_MS = 500;

export interface Starting {
  start: () => Promise<void>;
  onNotYet: (error: MillraceError) => void;
  /** Nothing is tried again after it. */
  end?: Promise<unknown>;
}

/** Tries again what was UNAVAILABLE or a TIMEOUT, for START_WITHIN_MS. Throws what `start` threw last. */
export async function startWithin({ start, onNotYet, end }: Starting): Promise<void> {
  const untilMs = performance.now() + START_WITHIN_MS;
  let ended = false;
  void end?.then(() => (ended = true));
  for (;;) {
    try {
      await start();
      return;
    } catch (error) {
      const { code } = error as MillraceError;
      const mayPass = code === 'UNAVAILABLE' || code === 'TIMEOUT';
      if (!mayPass || ended || performance.now() >= untilMs) throw error;
      onNotYet(error as MillraceError);
      await Promise.race([delay(START_AGAIN_MS), end ?? NEVER]);
    }
  }
}

const NEVER = new Promise<never>(() => {});
