import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import type { InspectedTransactions, TransactionReport } from '../../../core/state-report.ts';
import type { View } from '../context.ts';
import { count, duration, percent, plural, rate, short } from '../format.ts';
import { Badge, Empty, Facts, Loaded, Panel, Spark, type Tone } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';
import { sizeOf, waitTrees, type WaitNode } from '../waits.ts';

/** In the order in which a transaction goes through them. */
const PHASES: readonly [state: string, tone: Tone, what: string][] = [
  ['open', 'info', 'the handler runs, and reads'],
  ['locking', 'warn', 'waits for its locks'],
  ['preparing', 'info', 'partitions vote'],
  ['in-doubt', 'bad', 'voted, and its coordinator is gone'],
];
const MAX_TREES = 20;
/** Below one transaction. */
const MAX_WAITERS = 10;

const toneOf = (state: string): Tone => PHASES.find(([each]) => each === state)?.[1] ?? 'plain';

function columnsOf(live: View['live']): Column<TransactionReport>[] {
  return [
    {
      id: 'id',
      title: 'Transaction',
      width: 8,
      by: ({ id }) => id,
      cell: ({ id }) => <code title={id}>{short(id)}</code>,
    },
    {
      id: 'state',
      title: 'Phase',
      width: 7,
      by: ({ state }) => state,
      cell: ({ state }) => <Badge tone={toneOf(state)}>{state}</Badge>,
    },
    {
      id: 'age',
      title: 'Age',
      width: 5,
      numeric: true,
      by: ({ ageMs }) => ageMs,
      cell: ({ ageMs }) => duration(ageMs),
    },
    {
      id: 'coordinator',
      title: 'Coordinator',
      width: 9,
      priority: 3,
      by: ({ coordinator }) => coordinator,
      cell: ({ coordinator }) => (
        <span class="with-dot" title={coordinator}>
          <span class="dot owner" style={{ '--hue': live.hueOf(coordinator) }} />
          <code>{short(coordinator)}</code>
        </span>
      ),
    },
    {
      id: 'participants',
      title: 'Partitions',
      width: 8,
      priority: 2,
      by: ({ participants }) => participants.length,
      cell: ({ participants }) => (participants.length === 0 ? '–' : participants.join(', ')),
    },
    {
      id: 'waits',
      title: 'Waits for',
      by: ({ waitsFor }) => waitsFor.length,
      cell: ({ waitsFor }) => {
        const [first] = waitsFor;
        if (first === undefined) return <span class="dim">nobody</span>;
        const more = waitsFor.length > 1 ? `, and ${waitsFor.length - 1} more` : '';
        return (
          <span
            title={waitsFor.map(({ key, transaction }) => `${key} of ${transaction}`).join('\n')}
          >
            <code>{short(first.transaction)}</code>
            {first.key === '' ? more : ` for ${first.key}${more}`}
          </span>
        );
      },
    },
  ];
}

export function Transactions({ live }: View): VNode {
  const [sort, setSort] = useState<Sort>({ id: 'age', down: true });
  const { transactions } = live.parts;
  return (
    <Loaded part={transactions} what="transactions">
      {(value) => {
        const columns = columnsOf(live);
        const trees = waitTrees(value.active);
        return (
          <>
            <Phases value={value} live={live} />
            <Panel title="In flight" note={plural(value.active.length, 'transaction')}>
              {value.active.length === 0 ? (
                <Empty title="None just now">
                  Most take milliseconds: what is seen here has begun and not ended at the moment of
                  asking.
                </Empty>
              ) : (
                <Table
                  label="Transactions in flight"
                  columns={columns}
                  rows={sorted(value.active, columns, sort)}
                  keyOf={({ id }) => id}
                  sort={sort}
                  onSort={setSort}
                />
              )}
            </Panel>
            <Panel title="Who waits for whom" note="below each transaction those that wait for it">
              {trees.length === 0 ? (
                <Empty title="Nobody waits" />
              ) : (
                <ul class="waits">
                  {trees.slice(0, MAX_TREES).map((node) => (
                    <Tree key={node.id} node={node} />
                  ))}
                </ul>
              )}
            </Panel>
          </>
        );
      }}
    </Loaded>
  );
}

function Phases({ value, live }: { value: InspectedTransactions; live: View['live'] }): VNode {
  const { active, counters } = value;
  const { committed, aborted, conflicts, recovered } = counters;
  const others = active.filter(({ state }) => PHASES.every(([each]) => each !== state));
  return (
    <div class="columns">
      <Panel title="By phase">
        <ol class="phases">
          {PHASES.map(([state, tone, what]) => {
            const of = active.filter((each) => each.state === state).length;
            return (
              <li key={state} class={of > 0 ? tone : 'none'}>
                <span class="phase-count">{count(of)}</span>
                <span class="phase-name">{state}</span>
                <span class="phase-what">{what}</span>
              </li>
            );
          })}
        </ol>
        {others.length > 0 && (
          <p class="dim">{`${count(others.length)} in other phases: ${[...new Set(others.map(({ state }) => state))].join(', ')}`}</p>
        )}
      </Panel>
      <Panel title="Since the workers began">
        <Facts
          of={[
            ['Committed', `${count(committed)}, ${rate(live.history.committed.last)} a second`],
            [
              'Aborted',
              `${count(aborted)}${committed + aborted > 0 ? `, ${percent(aborted / (committed + aborted))}` : ''}`,
            ],
            ['Conflicts', `${count(conflicts)}, ${rate(live.history.conflicts.last)} a second`],
            ['Recovered', count(recovered)],
          ]}
        />
        <Spark values={live.history.committed.values} />
      </Panel>
    </div>
  );
}

function Tree({ node }: { node: WaitNode }): VNode {
  const { id, transaction, wants, waiting } = node;
  return (
    <li>
      <span class="wait">
        <code title={id}>{short(id)}</code>
        {transaction === undefined ? (
          <Badge>has ended, or not said</Badge>
        ) : (
          <Badge tone={toneOf(transaction.state)}>{transaction.state}</Badge>
        )}
        {transaction !== undefined && <span class="dim">{duration(transaction.ageMs)}</span>}
        {wants.map(({ key, partition }) => (
          <span key={key} class="wants">
            {key === '' ? `on partition ${partition}` : `wants ${key}`}
          </span>
        ))}
        {waiting.length > 0 && <span class="dim">{`${count(sizeOf(node))} behind it`}</span>}
      </span>
      {waiting.length > 0 && (
        <ul>
          {waiting.slice(0, MAX_WAITERS).map((each) => (
            <Tree key={each.id} node={each} />
          ))}
          {waiting.length > MAX_WAITERS && (
            <li class="dim">{`and ${count(waiting.length - MAX_WAITERS)} more`}</li>
          )}
        </ul>
      )}
    </li>
  );
}
