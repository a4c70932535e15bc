/** Bugs planted on purpose, one at a time, into a copy of the sources: does the simulation find them? And of deliveries, the property tests? */
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Mutant {
  bug: string;
  file: string;
  from: string;
  to: string;
}

const PARTITION = 'src/core/state/partition.ts';
const OWNER = 'src/core/state/owner.ts';
const REPLAY = 'src/core/state/replay.ts';
const JOURNAL = 'src/core/state/journal.ts';
const SESSIONS = 'src/core/state/sessions.ts';
const DECISIONS = 'src/core/state/decisions.ts';
const TRANSACTION = 'src/core/state/transaction.ts';
const LOCKS = 'src/core/state/locks.ts';
const MOVES = 'src/core/state/moves.ts';
const STORE = 'test/simulation/store.ts';

export const MUTANTS: readonly Mutant[] = [
  {
    bug: 'no fence',
    file: STORE,
    from: 'const fits = (log.at(-1)?.sequence ?? 0) === expected;',
    to: 'const fits = true;',
  },
  {
    bug: 'repeated after a timeout without reading back',
    file: STORE,
    from: 'if ((last?.sequence ?? 0) === expected) continue;',
    to: 'if (answer === undefined) { expected = last?.sequence ?? 0; continue; }',
  },
  {
    bug: 'trimming takes the fence',
    file: STORE,
    from: 'while (log.length > 1 && (log[0] as Message).sequence < before)',
    to: 'while (log.length > 0 && (log[0] as Message).sequence <= before)',
  },
  {
    bug: 'vote before the append',
    file: PARTITION,
    from: 'if (session.writes.length > 0 && session.logged)',
    to: 'if (session.writes.length > 0)',
  },
  {
    bug: 'outcome told before the append',
    file: PARTITION,
    from: "session.state = 'deciding';",
    to: "session.state = 'deciding'; this.#tellOutcome(session.coordinator, session.tx);",
  },
  {
    bug: 'no decision record',
    file: PARTITION,
    from: `    this.queue.enqueue({ kind: 'decide', tx, coordinator, writers, writes, emits }, (loggedAtMs) =>
      this.#committedAtHome(session, loggedAtMs),
    );
`,
    to: `    this.#committedAtHome(session, nowMs);
`,
  },
  {
    bug: 'locks kept after an abort',
    file: SESSIONS,
    from: `    this.forget(session);
    this.freeLocks(session);
`,
    to: `    this.forget(session);
`,
  },
  {
    bug: 'reads not confirmed',
    file: PARTITION,
    from: `    if (asks) {
`,
    to: `    if (asks && nowMs < 0) {
`,
  },
  {
    bug: 'a former owner says that a transaction has ended',
    file: PARTITION,
    from: `this.queue.confirm(() => this.#ports.toPartition(home, { kind: 'ended', tx, from: this.id }));`,
    to: `this.#ports.toPartition(home, { kind: 'ended', tx, from: this.id });`,
  },
  {
    bug: 'a former owner says that a transaction was aborted',
    file: PARTITION,
    from: `this.queue.confirm(() => this.#ports.toPartition(from, { kind: 'abort', tx }));`,
    to: `this.#ports.toPartition(from, { kind: 'abort', tx });`,
  },
  {
    bug: 'what was built on a lost decision stands',
    file: PARTITION,
    from: 'if (session.undecided.size > 0)',
    to: 'if (session.undecided.size < 0)',
  },
  {
    bug: 'a gap in the log is not noticed',
    file: REPLAY,
    from: 'missing ||= append.index !== position.index + 1;',
    to: 'missing ||= append.index < 0;',
  },
  {
    bug: 'any owner confirms',
    file: JOURNAL,
    from: 'if (last >= asked && last <= this.position.sequence) {',
    to: 'if (last >= 0 || asked >= 0) {',
  },
  {
    bug: 'vote before what it depends on has committed',
    file: PARTITION,
    from: 'if (session.voted || session.dependsOn.size > 0) return;',
    to: 'if (session.voted) return;',
  },
  {
    bug: 'decision before what it depends on',
    file: PARTITION,
    from: "for (const other of session.dependsOn) if (other.state !== 'deciding') return;",
    to: '',
  },
  {
    bug: 'reads of an aborted value stand',
    file: PARTITION,
    from: `if (other.state === 'active') this.sessions.lose(other, refusal);`,
    to: `if (other.state === 'active') continue;`,
  },
  {
    bug: 'tentative values not read',
    file: SESSIONS,
    from: `value: tail === undefined ? (item?.value ?? null) : tail.value,`,
    to: `value: item?.value ?? null,`,
  },
  {
    bug: 'a recovered commit overtakes what it depends on',
    file: PARTITION,
    from: `      if (other.state === 'prepared') this.#commitPrepared(other);
`,
    to: ``,
  },
  {
    bug: 'a decision is forgotten before all have it',
    file: DECISIONS,
    from: `if (writers.size > 0 || !coordinatorEnded || emits.length > 0) return;`,
    to: `if (emits.length > 0 || (writers.size < 0 && coordinatorEnded)) return;`,
  },
  {
    bug: 'nobody asks for an outcome again',
    file: PARTITION,
    from: '} else if (session.voted && waitedMs >= queryAfterMs) this.#voteYes(session, nowMs);',
    to: '}',
  },
  {
    bug: 'resolve aborts what is being decided',
    file: PARTITION,
    from: `else if (session === undefined || session.state === 'active') {
`,
    to: `else {
`,
  },
  {
    bug: 'an unknown transaction is called committed',
    file: PARTITION,
    from: `this.queue.confirm(() => this.#tellOutcome(coordinator, tx, this.#refusal('lost')));`,
    to: `this.queue.confirm(() => this.#tellOutcome(coordinator, tx));`,
  },
  {
    bug: 'the grant is not looked at',
    file: PARTITION,
    from: 'message.epoch !== this.epoch || message.grant !== session.grant || session.waits > 0',
    to: 'session.waits > 0',
  },
  {
    bug: 'a shared lock does not keep writers out',
    file: LOCKS,
    from: "(mode === 'exclusive' || held === 'exclusive')",
    to: "(mode === 'exclusive' && held === 'exclusive')",
  },
  {
    bug: 'nobody gives way',
    file: TRANSACTION,
    from: 'if (this.#wound === undefined || this.waitsFor().length === 0) return;',
    to: 'if (this.#wound !== undefined || this.state === this.state) return;',
  },
  {
    bug: 'locks from two sessions are taken together',
    file: TRANSACTION,
    from: 'known.epoch !== epoch || known.grant !== grant',
    to: 'known.epoch < 0',
  },
  {
    bug: 'a snapshot claims more than it has',
    file: OWNER,
    from: 'await this.#writeClaim({ epoch, snapshot, segments: [{ journal, epoch, from }] });',
    to: 'await this.#writeClaim({ epoch, snapshot, segments: [{ journal, epoch, from: this.#journal.position }] }); void from;',
  },
  {
    bug: 'an append that was refused counts',
    file: JOURNAL,
    from: 'this.end((error as Error).message);\n      return;\n    }\n    this.#appending',
    to: 'void error;\n    }\n    this.#appending',
  },
  {
    bug: 'taken over without a seal',
    file: OWNER,
    from: 'if (sealing) return this.#ports.seal(journal);',
    to: 'void sealing;',
  },
  {
    bug: 'a seal is not heeded by the next one to seal',
    file: JOURNAL,
    from: "if (last.kind !== 'records') return last.position;",
    to: '',
  },
  {
    bug: 'a journal is trimmed although a claim needs it',
    file: JOURNAL,
    from: 'const sequence = Math.min(this.position.sequence, ...needed);',
    to: 'const { sequence } = this.position; void needed;',
  },
  {
    bug: 'a journal is emptied although a claim names it',
    file: JOURNAL,
    from: 'if (claim !== undefined && neededFrom(claim, id) !== undefined) return;',
    to: 'if (claim === undefined || neededFrom(claim, id) === -1) return;',
  },
  {
    bug: 'a journal is emptied without a word',
    file: JOURNAL,
    from: "if (kind === 'seal') {",
    to: "if (kind === 'emptied') {",
  },
  {
    bug: 'a segment is closed before its last append',
    file: OWNER,
    from: 'const to = await this.#journal.detach(this.machine.queue);',
    to: 'const to = this.#journal.position; void this.#journal.detach(this.machine.queue);',
  },
  {
    bug: 'a source serves what it has let go of',
    file: MOVES,
    from: '!(this.#departures.has(to) || this.#left.has(to))',
    to: '!this.#departures.has(to)',
  },
  {
    bug: 'a target serves before all has arrived',
    file: MOVES,
    from: 'return to === this.#id && this.#arrived.has(from);',
    to: 'return to === this.#id;',
  },
  {
    bug: 'a source lets go of what is prepared',
    file: MOVES,
    from: 'if (!departure.leaving && !this.#isUnderWay(to))',
    to: 'if (!departure.leaving)',
  },
  {
    bug: 'a source lets go of what is locked',
    file: MOVES,
    from: "return state === 'active' && [",
    to: "return state === 'prepared' && [",
  },
  {
    bug: 'items are said before the source has let go',
    file: MOVES,
    from: '    departure.leaving = true;\n',
    to: "    departure.leaving = true; this.#sayItems(to, '', 0);\n",
  },
  {
    bug: 'a source forgets what the target has not got',
    file: MOVES,
    from: '      this.#left.add(to);\n',
    to: '      this.#left.add(to); this.#onArrived(to);\n',
  },
  {
    bug: 'a target says that it has what is not in its log',
    file: MOVES,
    from: '    question.answered = true;\n',
    to: '    question.answered = true; if (last) this.#sayArrived(from, this.layout?.generation ?? 0);\n',
  },
  {
    bug: 'a target leaves items out',
    file: MOVES,
    from: 'let at = firstBehind(keys, after);',
    to: "let at = firstBehind(keys, after) + (after === '' ? 0 : 1);",
  },
  {
    bug: 'a snapshot knows nothing of moves',
    file: MOVES,
    from: '    const lists = { left: [...this.#left],',
    to: '    const lists = { left: [] as number[],',
  },
  {
    bug: 'a snapshot knows nothing of a layout that is not logged yet',
    file: MOVES,
    from: 'return this.#before;',
    to: 'return [];',
  },
];

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** A bug may make it go round in circles. */
const MAX_MS = 600_000;

/** The first seed that shows the bug, with what it says; undefined when none of them does. */
export async function finds(mutant: Mutant, seeds: number): Promise<string | undefined> {
  return inCopy(mutant, async (copy) => /^seed .*/m.exec(await soak(copy, seeds))?.[0]);
}

/** Likewise, of those in planted-deliveries.ts: what the property tests of deliveries say. */
export async function deliveriesFind(mutant: Mutant): Promise<string | undefined> {
  return inCopy(mutant, async (copy) => {
    const vitest = join(copy, 'node_modules/.bin/vitest');
    const tests = ['test/property/delivery.test.ts', 'test/property/flow.test.ts'];
    const output = await outputOf(vitest, ['run', ...tests], copy);
    return /^.*(?:AssertionError|Error: seed).*/m.exec(output)?.[0].trim();
  });
}

async function inCopy<Result>(
  { file, from, to }: Mutant,
  check: (copy: string) => Promise<Result>,
): Promise<Result> {
  const copy = mkdtempSync(join(tmpdir(), 'millrace-mutant-'));
  try {
    for (const part of [
      'src',
      'test/simulation',
      'test/property',
      'test/support',
      'package.json',
      'tsconfig.json',
    ]) {
      cpSync(join(ROOT, part), join(copy, part), { recursive: true });
    }
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    const text = readFileSync(join(copy, file), 'utf8');
    if (!text.includes(from)) throw new Error(`${file} has changed: this bug cannot be planted`);
    writeFileSync(
      join(copy, file),
      text.replace(from, () => to),
    );
    return await check(copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function soak(copy: string, seeds: number): Promise<string> {
  const args = ['test/simulation/soak.ts', '--seeds', String(seeds), '--processes', '1'];
  return outputOf(join(copy, 'node_modules/.bin/tsx'), [...args, '--no-shrink'], copy);
}

function outputOf(command: string, args: string[], cwd: string): Promise<string> {
  return new Promise((resolve) => {
    const env = { ...process.env, NO_COLOR: '1' };
    execFile(command, args, { cwd, env, timeout: MAX_MS }, (_, stdout, stderr) =>
      resolve(`${stdout}${stderr}`),
    );
  });
}
