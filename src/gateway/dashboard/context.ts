/** What every view is given. */
import type { Identity } from './api.ts';
import type { Live } from './live.ts';
import type { Question } from './parts/dialog.tsx';

export interface View {
  live: Live;
  me: Identity;
  /** Since 1970; moves with each answer. */
  now: number;
  /** Asks first; then does it, says how it went, and looks again. */
  confirm: (question: Question) => void;
  /** Does it, and says how it went, aloud too. */
  act: (what: string, run: () => Promise<string>) => void;
}
