import { setTimeout as delay } from 'node:timers/promises';
import { MillraceError } from 'millrace';

const AGAIN_MS = 100;

/** Repeated until it is answered, whatever the platform refuses it with meanwhile. */
export async function surely<Result>(attempt: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      await delay(AGAIN_MS);
    }
  }
}
