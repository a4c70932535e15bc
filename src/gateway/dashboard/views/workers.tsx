import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import type { WorkerRow } from '../../live-parts.ts';
import type { View } from '../context.ts';
import { ago, count, percent, plural, short } from '../format.ts';
import { Badge, Empty, Filter, Loaded, Meter, Panel, type Tone } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';

const TONES: Record<WorkerRow['state'], Tone> = {
  running: 'good',
  draining: 'warn',
  unresponsive: 'bad',
};

function columnsOf({ live, now }: View): Column<WorkerRow>[] {
  return [
    {
      id: 'id',
      title: 'Worker',
      width: 8.5,
      by: ({ id }) => id,
      cell: ({ id }) => (
        <span class="with-dot" title={id}>
          <span class="dot owner" style={{ '--hue': live.hueOf(id) }} />
          <code>{short(id)}</code>
        </span>
      ),
    },
    {
      id: 'host',
      title: 'Host',
      by: ({ host, pid }) => `${host} ${pid}`,
      priority: 2,
      cell: ({ host, pid }) => (host === '' ? '–' : `${host} · ${pid}`),
    },
    {
      id: 'state',
      title: 'State',
      width: 8,
      by: ({ state }) => state,
      cell: ({ state }) => <Badge tone={TONES[state]}>{state}</Badge>,
    },
    {
      id: 'load',
      title: 'Load',
      width: 7.5,
      numeric: true,
      by: ({ utilization }) => utilization,
      cell: ({ utilization, state }) =>
        state === 'unresponsive' ? (
          '–'
        ) : (
          <span class="with-meter">
            <Meter share={utilization} label={percent(utilization)} />
            {percent(utilization)}
          </span>
        ),
    },
    {
      id: 'inFlight',
      title: 'In flight',
      width: 6,
      numeric: true,
      priority: 2,
      by: ({ inFlight }) => inFlight,
      cell: ({ inFlight }) => count(inFlight),
    },
    {
      id: 'slots',
      title: 'Slots',
      width: 6,
      numeric: true,
      priority: 3,
      by: ({ slots }) => slots,
      cell: ({ slots }) => count(slots),
    },
    {
      id: 'functions',
      title: 'Functions',
      width: 7,
      numeric: true,
      priority: 3,
      by: ({ functions }) => functions,
      cell: ({ functions }) => count(functions),
    },
    {
      id: 'partitions',
      title: 'Partitions',
      width: 7,
      numeric: true,
      priority: 2,
      by: ({ partitions }) => partitions.length,
      cell: ({ partitions }) => (
        <span title={partitions.join(', ')}>{count(partitions.length)}</span>
      ),
    },
    {
      id: 'startedAt',
      title: 'Started',
      width: 9,
      priority: 3,
      by: ({ startedAt }) => startedAt,
      cell: ({ startedAt }) => (startedAt === '' ? '–' : ago(startedAt, now)),
    },
  ];
}

export function Workers(view: View): VNode {
  const [sort, setSort] = useState<Sort>({ id: 'host', down: false });
  const [filter, setFilter] = useState('');
  const columns = columnsOf(view);
  const { workers } = view.live.parts;
  const text = filter.toLowerCase();
  return (
    <Panel
      title="Workers"
      note={workers?.value && plural(workers.value.length, 'worker')}
      tools={<Filter what="workers" value={filter} onInput={setFilter} />}
    >
      <Loaded part={workers} what="workers">
        {(all) => {
          const rows = all.filter(({ id, host, state, pid }) =>
            `${id} ${host} ${pid} ${state}`.toLowerCase().includes(text),
          );
          if (all.length === 0)
            return (
              <Empty title="No worker runs">
                Start one: millrace worker --functions DIR. Each one that is started adds capacity.
              </Empty>
            );
          if (rows.length === 0) return <Empty title="No worker matches the filter" />;
          return (
            <Table
              label="Workers"
              columns={columns}
              rows={sorted(rows, columns, sort)}
              keyOf={({ id }) => id}
              sort={sort}
              onSort={setSort}
            />
          );
        }}
      </Loaded>
    </Panel>
  );
}
