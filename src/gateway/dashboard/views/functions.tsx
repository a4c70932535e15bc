import type { VNode } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { InspectedWaiting } from '../../../core/report.ts';
import type { FunctionRow } from '../../live-parts.ts';
import { ask, messageOf, part } from '../api.ts';
import type { View } from '../context.ts';
import { count, duration, percent, plural, rate } from '../format.ts';
import { Badge, Empty, Facts, Filter, Loaded, Panel } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';

function columnsOf({ rates }: View['live']): Column<FunctionRow>[] {
  const of = (name: string) => rates.get(name) ?? { calls: 0, errors: 0 };
  return [
    {
      id: 'name',
      title: 'Function',
      by: ({ name }) => name,
      cell: ({ name, canary, versions }) => (
        <span class="with-badge">
          <a href={`#functions/${name}`}>{name}</a>
          {canary !== null && <Badge tone="info">canary</Badge>}
          {canary === null && versions > 1 && <Badge tone="warn">{`${versions} versions`}</Badge>}
        </span>
      ),
    },
    {
      id: 'delivery',
      title: 'Delivery',
      width: 7,
      priority: 3,
      by: ({ delivery }) => delivery,
      cell: ({ delivery }) => delivery,
    },
    {
      id: 'rate',
      title: 'Calls/s',
      width: 5.5,
      numeric: true,
      by: ({ name }) => of(name).calls,
      cell: ({ name }) => rate(of(name).calls),
    },
    {
      id: 'calls',
      title: 'Calls',
      width: 6.5,
      numeric: true,
      priority: 3,
      by: ({ calls }) => calls,
      cell: ({ calls }) => count(calls),
    },
    {
      id: 'errors',
      title: 'Errors',
      width: 5,
      numeric: true,
      by: ({ errors }) => errors,
      cell: ({ name, errors }) => (
        <span class={of(name).errors > 0 ? 'bad' : ''}>{count(errors)}</span>
      ),
    },
    {
      id: 'p50',
      title: 'p50',
      width: 5.5,
      numeric: true,
      priority: 2,
      by: ({ latencyMs }) => latencyMs.p50,
      cell: ({ latencyMs }) => duration(latencyMs.p50),
    },
    {
      id: 'p99',
      title: 'p99',
      width: 5.5,
      numeric: true,
      priority: 2,
      by: ({ latencyMs }) => latencyMs.p99,
      cell: ({ latencyMs }) => duration(latencyMs.p99),
    },
    {
      id: 'pending',
      title: 'Waiting',
      width: 6,
      numeric: true,
      priority: 2,
      by: ({ pending }) => pending,
      cell: ({ pending }) => count(pending),
    },
    {
      id: 'dead',
      title: 'Dead',
      width: 5,
      numeric: true,
      priority: 2,
      by: ({ deadLetters }) => deadLetters,
      cell: ({ deadLetters, name }) =>
        deadLetters === 0 ? (
          '0'
        ) : (
          <a href="#dead" aria-label={`${count(deadLetters)} dead letters of ${name}`}>
            {count(deadLetters)}
          </a>
        ),
    },
    {
      id: 'workers',
      title: 'Workers',
      width: 6,
      numeric: true,
      priority: 3,
      by: ({ workers }) => workers,
      cell: ({ workers }) => count(workers),
    },
  ];
}

export function Functions(view: View & { chosen: string | undefined }): VNode {
  const { live, chosen } = view;
  const [sort, setSort] = useState<Sort>({ id: 'rate', down: true });
  const [filter, setFilter] = useState('');
  const { functions } = live.parts;
  const columns = columnsOf(live);
  const all = functions?.value;
  // Scrolling builds rows and sorts nothing.
  const rows = useMemo(() => {
    const text = filter.toLowerCase();
    const kept = (all ?? []).filter(({ name, on }) =>
      `${name} ${on.join(' ')}`.toLowerCase().includes(text),
    );
    return sorted(kept, columns, sort);
  }, [all, filter, sort]);
  const shown = all?.find(({ name }) => name === chosen);
  return (
    <div class={chosen === undefined ? '' : 'split'}>
      <Panel
        title="Functions"
        note={
          all &&
          (rows.length === all.length
            ? plural(all.length, 'function')
            : `${count(rows.length)} of ${plural(all.length, 'function')}`)
        }
        tools={<Filter what="functions" value={filter} onInput={setFilter} />}
      >
        <Loaded part={functions} what="functions">
          {(value) => {
            if (value.length === 0)
              return (
                <Empty title="No functions yet">
                  millrace deploy DIR sends those of a folder to all workers; millrace worker
                  --functions DIR runs them here.
                </Empty>
              );
            if (rows.length === 0) return <Empty title="No function matches the filter" />;
            return (
              <Table
                label="Functions"
                columns={columns}
                rows={rows}
                keyOf={({ name }) => name}
                sort={sort}
                onSort={setSort}
                selected={chosen}
              />
            );
          }}
        </Loaded>
      </Panel>
      {chosen !== undefined && (
        <Panel
          title={chosen}
          tools={
            <a class="button" href="#functions">
              Close
            </a>
          }
        >
          {shown === undefined ? (
            <Empty title="No worker has this function" />
          ) : (
            <Details key={chosen} row={shown} view={view} />
          )}
        </Panel>
      )}
    </div>
  );
}

function Details({ row, view }: { row: FunctionRow; view: View }): VNode {
  const { name, version, on, delivery, balance, cron, calls, errors, refused, dropped, canary } =
    row;
  const { workers, latencyMs, pending, deadLetters } = row;
  const { calls: callsRate } = view.live.rates.get(name) ?? { calls: 0 };
  return (
    <>
      <Facts
        of={[
          ['Version', <code key="version">{version}</code>],
          ['Events', on.length === 0 ? 'none: by name only' : on.join(', ')],
          ['Delivery', delivery],
          ['Balance', balance],
          ...(cron === null ? [] : [['Schedule', cron] as const]),
          ['Workers', count(workers)],
          ['Calls', `${count(calls)}, ${rate(callsRate)} a second`],
          ['Errors', `${count(errors)}${calls > 0 ? `, ${percent(errors / calls)}` : ''}`],
          ['Refused', count(refused)],
          ['Latency', `p50 ${duration(latencyMs.p50)}, p99 ${duration(latencyMs.p99)}`],
          ['Waiting', count(pending)],
          ['Dropped', count(dropped)],
          ['Dead letters', count(deadLetters)],
          ...(canary === null
            ? []
            : [
                [
                  'Canary',
                  `${canary.version}: ${percent(canary.share)} of calls, ${count(canary.errors)} of ${count(canary.calls)} failed; beside it ${count(canary.stable.errors)} of ${count(canary.stable.calls)}`,
                ] as const,
              ]),
        ]}
      />
      {delivery === 'durable' && (
        <Waiting name={name} atMs={view.live.parts.functions?.atMs ?? 0} />
      )}
    </>
  );
}

const WHY: Record<string, string> = {
  stream: 'not read from the stream yet',
  order: 'behind another event of their key',
  retry: 'a run has failed',
  concurrency: 'so many run already (concurrency)',
  rate: 'rate limit',
  batch: 'until the batch is full',
  debounce: 'debounced',
  worker: 'workers are full',
};

/** Why its durable events wait; asked for the one function that is looked at. */
function Waiting({ name, atMs }: { name: string; atMs: number }): VNode {
  const [waiting, setWaiting] = useState<InspectedWaiting[] | string>();
  useEffect(() => {
    const asking = new AbortController();
    ask<{ waiting: InspectedWaiting[] }>(`inspect/waiting?function=${part(name)}`, {
      signal: asking.signal,
    }).then(
      (answer) => setWaiting(answer.waiting),
      (error: unknown) => asking.signal.aborted || setWaiting(messageOf(error)),
    );
    return () => asking.abort();
  }, [name, atMs]);
  return (
    <>
      <h3>Why events wait</h3>
      {typeof waiting === 'string' && <p class="problem">{waiting}</p>}
      {Array.isArray(waiting) && waiting.length === 0 && <p class="dim">None waits.</p>}
      {Array.isArray(waiting) && waiting.length > 0 && (
        <ul class="plain">
          {waiting.slice(0, 20).map(({ why, key, count: events, untilMs }) => (
            <li key={`${why} ${key}`}>
              {`${plural(events, 'event')}: ${WHY[why] ?? why}`}
              {key !== '' && <code>{` ${key}`}</code>}
              {untilMs !== null && ` · for ${duration(untilMs)} more`}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
