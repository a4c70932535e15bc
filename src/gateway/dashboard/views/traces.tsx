/** An event's way through functions: a waterfall of the runs that it has caused. */
import type { VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Run } from '../../../bus/run-traces.ts';
import type { TraceRow } from '../../live-parts.ts';
import { ApiError, ask, messageOf } from '../api.ts';
import type { View } from '../context.ts';
import { clock, count, duration, plural, short } from '../format.ts';
import { Badge, Empty, Facts, Filter, Loaded, Panel, Skeleton } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';
import { waterfallOf, type Waterfall, type WaterfallRow } from '../waterfall.ts';

const COLUMNS: Column<TraceRow>[] = [
  {
    id: 'at',
    title: 'Began',
    width: 5.75,
    by: ({ startedAtMs }) => startedAtMs,
    cell: ({ startedAtMs }) => <time>{clock(startedAtMs)}</time>,
  },
  {
    id: 'function',
    title: 'First function',
    by: (row) => row.function,
    cell: (row) => (
      <a
        href={`#traces/${row.id}`}
        title={row.subject}
        aria-label={`Trace that began with ${row.function} at ${clock(row.startedAtMs)}`}
      >
        {row.function}
      </a>
    ),
  },
  {
    id: 'subject',
    title: 'Subject',
    priority: 3,
    by: ({ subject }) => subject,
    cell: ({ subject }) => subject,
  },
  {
    id: 'runs',
    title: 'Runs',
    width: 4,
    numeric: true,
    priority: 2,
    by: ({ runs }) => runs,
    cell: ({ runs }) => count(runs),
  },
  {
    id: 'errors',
    title: 'Failed',
    width: 5,
    numeric: true,
    priority: 2,
    by: ({ errors }) => errors,
    cell: ({ errors }) => <span class={errors > 0 ? 'bad' : ''}>{count(errors)}</span>,
  },
  {
    id: 'duration',
    title: 'Took',
    width: 5,
    numeric: true,
    by: ({ durationMs }) => durationMs,
    cell: ({ durationMs }) => duration(durationMs),
  },
];

export function Traces(view: View & { chosen: string | undefined }): VNode {
  const { live, chosen } = view;
  const [sort, setSort] = useState<Sort>({ id: 'at', down: true });
  const [filter, setFilter] = useState('');
  const { traces } = live.parts;
  return (
    <>
      {chosen !== undefined && <Trace key={chosen} id={chosen} atMs={traces?.atMs ?? 0} />}
      <Panel
        title="Traces"
        note="a sample: while this page is open, each worker chooses up to 20 a second"
        tools={<Filter what="traces" value={filter} onInput={setFilter} />}
      >
        <Loaded part={traces} what="traces">
          {(all) => {
            const text = filter.toLowerCase();
            const rows = all.filter((row) =>
              `${row.function} ${row.subject} ${row.id}`.toLowerCase().includes(text),
            );
            if (all.length === 0)
              return (
                <Empty title="Waiting for the next event">
                  Runs are followed from now on, and only while this page is open. Publish one:
                  millrace publish SUBJECT JSON
                </Empty>
              );
            if (rows.length === 0) return <Empty title="No trace matches the filter" />;
            return (
              <Table
                label="Traces"
                columns={COLUMNS}
                rows={sorted(rows, COLUMNS, sort)}
                keyOf={({ id }) => id}
                sort={sort}
                onSort={setSort}
                selected={chosen}
                maxRows={10}
              />
            );
          }}
        </Loaded>
      </Panel>
    </>
  );
}

/** Asked for again with each new answer: runs may still come. Once it was there it stays, also when the gateway keeps it no more. */
function Trace({ id, atMs }: { id: string; atMs: number }): VNode {
  const [found, setFound] = useState<{ runs: Run[]; more: number }>();
  const [problem, setProblem] = useState('');
  useEffect(() => {
    const asking = new AbortController();
    ask<{ runs: Run[]; more: number }>(`traces/${encodeURIComponent(id)}`, {
      signal: asking.signal,
    }).then(setFound, (error: unknown) => {
      if (asking.signal.aborted) return;
      setProblem(
        error instanceof ApiError && error.code === 'NOT_FOUND'
          ? 'This trace is kept no more.'
          : messageOf(error),
      );
    });
    return () => asking.abort();
  }, [id, atMs]);
  const [run, setRun] = useState<string>();
  const tools = (
    <a class="button" href="#traces">
      Close
    </a>
  );
  if (found === undefined) {
    return (
      <Panel title="Trace" tools={tools}>
        {problem === '' ? <Skeleton what="the trace" /> : <p class="problem">{problem}</p>}
      </Panel>
    );
  }
  const waterfall = waterfallOf(found.runs);
  const chosen = waterfall.rows.find((row) => row.run.run === run) ?? waterfall.rows[0];
  const note = `${plural(found.runs.length + found.more, 'run')} in ${duration(waterfall.durationMs)}, from ${clock(waterfall.beganMs)}`;
  return (
    <Panel
      title={`Trace of ${waterfall.rows[0]?.run.function ?? short(id)}`}
      note={note}
      tools={tools}
    >
      <p class="legend" aria-hidden="true">
        <span class="key waited" /> waited
        <span class="key handler" /> handler
        <span class="key commit" /> commit
        <span class="key failed" /> failed
        <span class="key emit" /> emitted
      </p>
      <div class="waterfall" role="region" aria-label="Waterfall" tabIndex={0}>
        <table>
          <caption class="hidden">Runs of the trace, what they have caused below them</caption>
          <thead>
            <tr>
              <th scope="col">Function</th>
              <th scope="col" class="track-head">
                <span>0</span>
                <span>{duration(waterfall.durationMs)}</span>
              </th>
              <th scope="col" class="numeric">
                Took
              </th>
            </tr>
          </thead>
          <tbody>
            {waterfall.rows.map((row) => (
              <Line
                key={row.run.run}
                row={row}
                of={waterfall}
                chosen={row === chosen}
                onChoose={() => setRun(row.run.run)}
              />
            ))}
          </tbody>
        </table>
      </div>
      {chosen !== undefined && <RunDetails row={chosen} trace={id} />}
    </Panel>
  );
}

/** A bar that is too short to be seen is shown as one that can. */
const MIN_PERCENT = 0.4;

function Line(props: {
  row: WaterfallRow;
  of: Waterfall;
  chosen: boolean;
  onChoose: () => void;
}): VNode {
  const { row, of, chosen, onChoose } = props;
  const { run, depth, fromMs, waitedMs, handlerMs, commitMs, endMs } = row;
  const scale = 100 / Math.max(of.durationMs, 0.001);
  const bar = (at: number, length: number) => ({
    left: `${Math.min(100 - MIN_PERCENT, at * scale)}%`,
    width: `${Math.max(MIN_PERCENT, length * scale)}%`,
  });
  const startMs = fromMs + waitedMs;
  const failed = run.error !== undefined;
  const said = `starts at ${duration(startMs)}${waitedMs > 0 ? `, waited ${duration(waitedMs)}` : ''}, handler ${duration(handlerMs)}, commit ${duration(commitMs)}`;
  return (
    <tr class={chosen ? 'chosen' : ''}>
      <th scope="row">
        <button
          type="button"
          class="link"
          aria-pressed={chosen}
          style={{ '--depth': depth }}
          onClick={onChoose}
        >
          {run.function}
        </button>
        {run.attempt > 1 && <Badge tone="warn">{`attempt ${run.attempt}`}</Badge>}
        {failed && <Badge tone="bad">{run.error}</Badge>}
      </th>
      <td class="track">
        <span class="hidden">{said}</span>
        <span aria-hidden="true" title={said}>
          {waitedMs > 0 && <span class="waited" style={bar(fromMs, waitedMs)} />}
          <span class={failed ? 'failed' : 'handler'} style={bar(startMs, handlerMs)} />
          {commitMs > 0 && !failed && (
            <span class="commit" style={bar(startMs + handlerMs, commitMs)} />
          )}
          {run.emitted.map(({ id, atMs }) => (
            <span key={id} class="emit" style={{ left: `${(startMs + atMs) * scale}%` }} />
          ))}
        </span>
      </td>
      <td class="numeric">{duration(endMs - startMs)}</td>
    </tr>
  );
}

function RunDetails({ row, trace }: { row: WaterfallRow; trace: string }): VNode {
  const { run, waitedMs, handlerMs, commitMs } = row;
  return (
    <>
      <h3>{`Run of ${run.function}`}</h3>
      <Facts
        of={[
          [
            'Outcome',
            run.error === undefined ? (
              <Badge key="ok" tone="good">
                ok
              </Badge>
            ) : (
              <Badge key="error" tone="bad">
                {run.error}
              </Badge>
            ),
          ],
          ['Subject', run.subject],
          ['Invocation', <code key="id">{run.invocation}</code>],
          [
            'Attempt',
            run.runs > 1
              ? `${run.attempt}, begun ${run.runs} times: its transaction was refused`
              : `${run.attempt}`,
          ],
          ...(run.events === undefined ? [] : [['Events', count(run.events)] as const]),
          [
            'Waited',
            run.storedAtMs === undefined ? 'not known: it was called' : duration(waitedMs),
          ],
          ['Handler', duration(handlerMs)],
          ['Commit', duration(commitMs)],
          ['Version', <code key="version">{run.version}</code>],
          ['Worker', <code key="worker">{run.worker}</code>],
          ['Trace', <code key="trace">{trace}</code>],
        ]}
      />
      {run.emitted.length > 0 && (
        <>
          <h3>Emitted</h3>
          <ul class="plain">
            {run.emitted.map(({ subject, id, atMs }) => (
              <li key={id}>
                {`${subject} after ${duration(atMs)} · `}
                <code>{id}</code>
              </li>
            ))}
          </ul>
        </>
      )}
      {run.calls.length > 0 && (
        <>
          <h3>Called</h3>
          <ul class="plain">
            {run.calls.map((call, at) => (
              <li
                key={at}
              >{`${call.function} after ${duration(call.atMs)}: ${call.error ?? 'ok'}${call.durationMs === undefined ? ', not awaited' : ` in ${duration(call.durationMs)}`}`}</li>
            ))}
          </ul>
        </>
      )}
      {run.more > 0 && <p class="dim">{`and ${run.more} more calls or events`}</p>}
    </>
  );
}
