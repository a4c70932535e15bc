import type { VNode } from 'preact';
import type { LiveParts } from '../../live-parts.ts';
import type { View } from '../context.ts';
import { age, count, duration, percent, plural, rate } from '../format.ts';
import { Empty, Loaded, Meter, Panel, Skeleton, Spark, type Tone } from '../parts/basics.tsx';
import { totals } from '../rates.ts';

const MAX_BUSIEST = 8;
/** A transaction of this age is worth a look. */
const OLD_MS = 5_000;

export function Overview({ live }: View): VNode {
  const { workers, functions, partitions } = live.parts;
  const sum = totals(functions?.value ?? [], live.rates);
  const owned = partitions?.value?.filter(({ owner }) => owner !== null).length ?? 0;
  const { history } = live;
  // What counters have grown by is known from the second answer on.
  const measured = history.calls.values.length > 0;
  return (
    <>
      <div class="tiles">
        <Tile
          title="Workers"
          href="#workers"
          value={workers?.value && count(workers.value.length)}
          spark={history.inFlight.values}
        >
          {workers?.value && plural(inFlightOf(workers.value), 'invocation')} in flight
        </Tile>
        <Tile
          title="Calls a second"
          href="#functions"
          value={measured ? rate(sum.calls) : undefined}
          spark={history.calls.values}
        >
          {`${count(sum.waiting)} waiting`}
        </Tile>
        <Tile
          title="Errors a second"
          href="#functions"
          value={measured ? rate(sum.errors) : undefined}
          spark={history.errors.values}
          tone={sum.errors > 0 ? 'bad' : 'info'}
        >
          {sum.calls > 0 ? `${percent(sum.errors / sum.calls)} of calls` : 'no calls just now'}
        </Tile>
        <Tile
          title="Commits a second"
          href="#transactions"
          value={history.committed.values.length > 0 ? rate(history.committed.last) : undefined}
          spark={history.committed.values}
        >
          {`${rate(history.conflicts.last)} conflicts a second`}
        </Tile>
        <Tile
          title="Partitions"
          href="#ring"
          value={partitions?.value && count(partitions.value.length)}
        >
          {partitions?.value &&
            (owned === partitions.value.length
              ? 'all have an owner'
              : `${partitions.value.length - owned} without an owner`)}
        </Tile>
        <Tile
          title="Dead letters"
          href="#dead"
          value={functions?.value && count(sum.dead)}
          tone={sum.dead > 0 ? 'warn' : 'info'}
        >
          {sum.dead > 0 ? 'wait for a decision' : 'none'}
        </Tile>
      </div>
      <div class="columns">
        <Panel title="Needs attention">
          <Attention {...live.parts} rates={live.rates} />
        </Panel>
        <Panel title="Busiest functions" note="calls in the last second">
          <Loaded part={functions} what="functions">
            {(rows) =>
              measured || rows.length === 0 ? (
                <Busiest rows={rows} live={live} />
              ) : (
                <Skeleton what="functions" />
              )
            }
          </Loaded>
        </Panel>
      </div>
      <Panel title="Load" note="one cell a worker: how busy its thread was in the last seconds">
        <Loaded part={workers} what="workers">
          {(rows) => <Load rows={rows} />}
        </Loaded>
      </Panel>
    </>
  );
}

function Tile(props: {
  title: string;
  href: string;
  value: string | undefined;
  children: unknown;
  spark?: readonly number[];
  tone?: Tone;
}): VNode {
  const { title, href, value, spark, tone = 'info' } = props;
  return (
    <a class="tile" href={href}>
      <span class="tile-title">{title}</span>
      <span class={`tile-value ${tone}`}>{value ?? '–'}</span>
      <span class="tile-note">{props.children as string}</span>
      {spark !== undefined && <Spark values={spark} tone={tone} />}
    </a>
  );
}

function inFlightOf(workers: LiveParts['workers']): number {
  return workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
}

type Parts = View['live']['parts'] & { rates: View['live']['rates'] };

function Attention({ workers, functions, partitions, transactions, rates }: Parts): VNode {
  const found: [tone: Tone, href: string, text: string][] = [];
  const silent = (workers?.value ?? []).filter(({ state }) => state === 'unresponsive');
  if (workers?.value?.length === 0) found.push(['bad', '#workers', 'No worker runs.']);
  if (silent.length > 0) {
    found.push(['bad', '#workers', `${plural(silent.length, 'worker')} connected, but silent.`]);
  }
  const unowned = (partitions?.value ?? []).filter(({ owner }) => owner === null);
  if (unowned.length > 0) {
    found.push([
      'bad',
      '#ring',
      `${plural(unowned.length, 'partition')} without an owner: their keys wait.`,
    ]);
  }
  const old = (transactions?.value?.active ?? []).filter(({ ageMs }) => ageMs > OLD_MS);
  if (old.length > 0) {
    found.push([
      'warn',
      '#transactions',
      `${plural(old.length, 'transaction')} older than ${age(OLD_MS)}.`,
    ]);
  }
  for (const { name } of functions?.value ?? []) {
    const { calls, errors } = rates.get(name) ?? { calls: 0, errors: 0 };
    if (errors > 0 && found.length < MAX_BUSIEST) {
      const share = percent(errors / Math.max(errors, calls));
      found.push([
        'bad',
        `#functions/${name}`,
        `${name} fails: ${rate(errors)} a second, ${share} of its calls.`,
      ]);
    }
  }
  const dead = (functions?.value ?? []).reduce((sum, { deadLetters }) => sum + deadLetters, 0);
  if (dead > 0) found.push(['warn', '#dead', `${plural(dead, 'dead letter')} to replay or drop.`]);
  const broken = [workers, functions, partitions, transactions].flatMap(
    (part) => part?.error ?? [],
  );
  for (const error of new Set(broken)) found.push(['bad', '#overview', error]);
  if (found.length === 0) {
    return (
      <Empty title="Nothing to do">
        Workers answer, partitions have owners, no function fails.
      </Empty>
    );
  }
  return (
    <ul class="attention">
      {found.map(([tone, href, text]) => (
        <li key={text} class={tone}>
          <a href={href}>{text}</a>
        </li>
      ))}
    </ul>
  );
}

function Busiest({ rows, live }: { rows: LiveParts['functions']; live: View['live'] }): VNode {
  const rateOf = (name: string): number => live.rates.get(name)?.calls ?? 0;
  const busiest = rows
    .filter(({ name }) => rateOf(name) > 0)
    .sort((a, b) => rateOf(b.name) - rateOf(a.name))
    .slice(0, MAX_BUSIEST);
  if (busiest.length === 0) {
    return (
      <Empty title={rows.length === 0 ? 'No functions yet' : 'All quiet'}>
        {rows.length === 0
          ? 'millrace worker --functions DIR runs those of a folder, millrace deploy DIR those of all workers.'
          : `${plural(rows.length, 'function')} wait for work. millrace invoke NAME calls one.`}
      </Empty>
    );
  }
  const most = rateOf(busiest[0]?.name ?? '');
  return (
    <ol class="bars">
      {busiest.map(({ name, latencyMs }) => (
        <li key={name}>
          <a href={`#functions/${name}`}>{name}</a>
          <span class="bar" aria-hidden="true">
            <span style={{ width: `${(rateOf(name) / most) * 100}%` }} />
          </span>
          <span class="numeric">{`${rate(rateOf(name))}/s`}</span>
          <span class="numeric dim">{`p99 ${duration(latencyMs.p99)}`}</span>
        </li>
      ))}
    </ol>
  );
}

function Load({ rows }: { rows: LiveParts['workers'] }): VNode {
  if (rows.length === 0) return <Empty title="No worker runs">millrace worker starts one.</Empty>;
  return (
    <ul class="load">
      {rows.map(({ id, utilization, state, host, pid }) => (
        <li key={id}>
          <span class="hidden">{`${host || id} ${pid ?? ''}: ${state === 'unresponsive' ? 'silent' : percent(utilization)}`}</span>
          {state === 'unresponsive' ? (
            <span class="meter silent" title={`${id} is silent`} />
          ) : (
            <Meter share={utilization} label={`${host} ${pid ?? ''}: ${percent(utilization)}`} />
          )}
        </li>
      ))}
    </ul>
  );
}
