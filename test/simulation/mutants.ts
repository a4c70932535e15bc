/**
 * Bugs planted on purpose: `npx tsx test/simulation/mutants.ts [SEEDS]` changes a copy of the sources, one bug at a
 * time, and says after how many seeds the simulation finds it. One that is not found ends with status 1.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Mutant {
  bug: string;
  file: string;
  from: string;
  to: string;
}

const PARTITION = 'src/core/state/partition.ts';
const OWNER = 'src/core/state/owner.ts';
const SESSIONS = 'src/core/state/sessions.ts';
const DECISIONS = 'src/core/state/decisions.ts';
const TRANSACTION = 'src/core/state/transaction.ts';
const LOCKS = 'src/core/state/locks.ts';
const STORE = 'test/simulation/store.ts';

const MUTANTS: readonly Mutant[] = [
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
    bug: 'the loss of any session counts',
    file: TRANSACTION,
    from: 'return known?.epoch === epoch && known.grant === grant;',
    to: 'return known !== undefined || epoch + grant > 0;',
  },
  {
    bug: 'a gap in the log is not noticed',
    file: OWNER,
    from: 'if (previousCrc !== this.#lastCrc) {',
    to: 'if (previousCrc < 0) {',
  },
  {
    bug: 'any owner confirms',
    file: OWNER,
    from: 'if (last === asked || last === this.sequence)',
    to: 'if (last > 0 || asked > 0)',
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
    from: 'this.#snapshot = { ...written, covers, crc };',
    to: 'this.#snapshot = { ...written, covers: this.sequence, crc: this.#lastCrc }; void covers; void crc;',
  },
  {
    bug: 'an append that was refused counts',
    file: OWNER,
    from: 'this.end((error as Error).message);\n    }\n  }\n\n  async #confirm()',
    to: 'this.#appending = false; this.machine.appended(this.#ports.now()); void error;\n    }\n  }\n\n  async #confirm()',
  },
];

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SEEDS = Number(process.argv[2] ?? 1_000);
const only = process.argv[3];

let missed = 0;
for (const { bug, file, from, to } of MUTANTS) {
  if (only !== undefined && !bug.includes(only)) continue;
  const copy = mkdtempSync(join(tmpdir(), 'millrace-mutant-'));
  for (const part of ['src', 'test', 'package.json', 'tsconfig.json']) {
    cpSync(join(ROOT, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  const text = readFileSync(join(copy, file), 'utf8');
  const found = text.includes(from);
  writeFileSync(join(copy, file), text.replace(from, to));
  const args = ['test/simulation/explore.ts', '1', String(SEEDS), '--stop'];
  const result = found
    ? spawnSync(join(copy, 'node_modules/.bin/tsx'), args, { cwd: copy, encoding: 'utf8' })
    : { stdout: 'the source has changed: this bug cannot be planted' };
  // A run that breaks is a bug that is found, too.
  const broke = found && !/ bad, /.test(result.stdout) ? 'seed ? : the run broke' : 'nothing';
  const [line = broke] = /^seed .*/m.exec(result.stdout) ?? [];
  const caught = line.startsWith('seed');
  if (!caught) missed += 1;
  process.stdout.write(
    `${caught ? 'found ' : 'MISSED'}  ${bug.padEnd(52)} ${(caught ? line : result.stdout).trim().slice(0, 110)}\n`,
  );
  rmSync(copy, { recursive: true, force: true });
}
process.exitCode = missed === 0 ? 0 : 1;
