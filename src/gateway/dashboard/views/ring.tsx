/** Two rings of the same keys: outside where partitions really lie, in hundreds of pieces each; inside each as one piece. */
import type { VNode } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { InspectedPartition } from '../../../core/state-report.ts';
import { arcPath, placesOf, pointAt, sharesOf, SLOTS, type Share } from '../arcs.ts';
import type { View } from '../context.ts';
import { isDark } from '../theme.ts';
import { bytes, clock, count, percent, plural, short } from '../format.ts';
import { Badge, Empty, Loaded, Panel, type Tone } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';
import type { Move } from '../rates.ts';

/** Places of the outer ring that are drawn, of all of them: as many as there are pixels around it. */
const PLACES = 2_048;
/** How strong what is not marked is drawn. */
const FAINT = 0.12;
const DRAWN_EACH = SLOTS / PLACES;
const SIZE = 440;
const OUTER = { from: 196, to: 212 };
const INNER = { from: 138, to: 186 };
const HUB = 86;
const VIEW_BOX = `${-SIZE / 2} ${-SIZE / 2} ${SIZE} ${SIZE}`;
const SHOWN_MS = 4_000;

const TONES: Record<InspectedPartition['state'], Tone> = {
  serving: 'good',
  loading: 'info',
  closing: 'warn',
  unowned: 'bad',
};

export function Ring(view: View): VNode {
  const { live } = view;
  const { partitions } = live.parts;
  const [chosen, setChosen] = useState<number>();
  return (
    <Loaded part={partitions} what="partitions">
      {(rows) =>
        rows.length === 0 ? (
          <Panel title="Ring">
            <Empty title="No partitions">State needs JetStream, and a worker that runs.</Empty>
          </Panel>
        ) : (
          <div class="split even">
            <Panel
              title="Ring"
              note={`${plural(rows.length, 'partition')} over ${plural(ownersOf(rows).length, 'worker')}`}
            >
              <Drawing rows={rows} view={view} chosen={chosen} onChoose={setChosen} />
              <Moves moves={live.moves} hueOf={(id) => live.hueOf(id)} />
            </Panel>
            <Panel
              title="Partitions"
              note={chosen === undefined ? undefined : `${chosen} is marked on the ring`}
            >
              <Partitions rows={rows} view={view} chosen={chosen} onChoose={setChosen} />
            </Panel>
          </div>
        )
      }
    </Loaded>
  );
}

function ownersOf(rows: readonly InspectedPartition[]): string[] {
  return [...new Set(rows.flatMap(({ owner }) => owner ?? []))].sort();
}

interface Chosen {
  rows: readonly InspectedPartition[];
  view: View;
  chosen: number | undefined;
  onChoose: (partition: number | undefined) => void;
}

function Drawing({ rows, view, chosen, onChoose }: Chosen): VNode {
  const { live, now } = view;
  const partitions = rows.length;
  const { places, shares } = useMemo(() => {
    const all = placesOf(partitions);
    const places = Uint16Array.from({ length: PLACES }, (_, at) => all[at * DRAWN_EACH] ?? 0);
    return { places, shares: sharesOf(all, partitions) };
  }, [partitions]);
  const owners = ownersOf(rows);
  const placeOf = new Map(owners.map((owner, at) => [owner, at / owners.length]));
  const moved = live.moves.filter(({ atMs }) => now - atMs < SHOWN_MS);
  return (
    <div class="ring">
      <Places places={places} rows={rows} view={view} chosen={chosen} />
      <svg
        viewBox={VIEW_BOX}
        role="img"
        aria-label={`${plural(partitions, 'partition')} and their owners; the table beside it says the same.`}
      >
        {shares.map((share) => (
          <Arc
            key={share.partition}
            share={share}
            row={rows[share.partition]}
            view={view}
            chosen={chosen}
            onChoose={onChoose}
          />
        ))}
        {owners.map((owner) => {
          const [x, y] = pointAt(placeOf.get(owner) ?? 0, HUB);
          return (
            <circle
              key={owner}
              class="owner"
              cx={x}
              cy={y}
              r={owners.length > 40 ? 2.5 : 6}
              style={{ '--hue': live.hueOf(owner) }}
            >
              <title>{`${owner}: ${plural(rows.filter((row) => row.owner === owner).length, 'partition')}`}</title>
            </circle>
          );
        })}
        <text class="ring-number" y="-2">
          {count(owners.length)}
        </text>
        <text class="ring-word" y="18">
          {owners.length === 1 ? 'owner' : 'owners'}
        </text>
      </svg>
      {moved.length > 0 && (
        <svg class="moving" viewBox={VIEW_BOX} aria-hidden="true">
          {moved.map((move) => (
            <Travel
              key={`${move.partition} ${move.atMs}`}
              move={move}
              share={shares[move.partition]}
              placeOf={placeOf}
              hue={move.to === null ? 0 : live.hueOf(move.to)}
            />
          ))}
        </svg>
      )}
    </div>
  );
}

function Arc(props: {
  share: Share;
  row: InspectedPartition | undefined;
  view: View;
  chosen: number | undefined;
  onChoose: (partition: number | undefined) => void;
}): VNode {
  const { share, row, view, chosen, onChoose } = props;
  const { partition, from, to } = share;
  const path = useMemo(() => arcPath(from, to, INNER.from, INNER.to), [from, to]);
  const owner = row?.owner ?? null;
  const classes = ['arc', owner === null ? 'unowned' : 'owner'];
  if (chosen === partition) classes.push('chosen');
  if (row?.state !== 'serving') classes.push('unsettled');
  return (
    <path
      class={classes.join(' ')}
      d={path}
      style={owner === null ? {} : { '--hue': view.live.hueOf(owner) }}
      onClick={() => onChoose(chosen === partition ? undefined : partition)}
    >
      <title>{`Partition ${partition}, ${percent(share.share)} of the ring: ${owner ?? 'no owner'}`}</title>
    </path>
  );
}

/** From the piece of the ring to its new owner. */
function Travel(props: {
  move: Move;
  share: Share | undefined;
  placeOf: ReadonlyMap<string, number>;
  hue: number;
}): VNode | null {
  const { move, share, placeOf, hue } = props;
  if (share === undefined || move.to === null) return null;
  const [x1, y1] = pointAt((share.from + share.to) / 2, INNER.from);
  const [x2, y2] = pointAt(placeOf.get(move.to) ?? 0, HUB);
  return (
    <g class="owner" style={{ '--hue': hue }}>
      <path class="moved" d={arcPath(share.from, share.to, INNER.from, INNER.to)} />
      <path class="travel" d={`M${x1} ${y1}Q0 0 ${x2} ${y2}`} pathLength={1} />
    </g>
  );
}

/** The outer ring has thousands of pieces: it is painted, not built. */
function Places(props: {
  places: Uint16Array;
  rows: readonly InspectedPartition[];
  view: View;
  chosen: number | undefined;
}): VNode {
  const { places, rows, view, chosen } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const owners = rows.map(({ owner }) => owner ?? '').join();
  const pixels = SIZE * Math.min(2, Math.ceil(devicePixelRatio));
  useEffect(() => {
    const { current } = canvas;
    const context = current?.getContext('2d');
    if (current === null || context === null || context === undefined) return undefined;
    const paint = (): void => {
      const dark = isDark();
      const scale = current.width / SIZE;
      context.setTransform(scale, 0, 0, scale, current.width / 2, current.height / 2);
      context.clearRect(-SIZE / 2, -SIZE / 2, SIZE, SIZE);
      context.lineWidth = OUTER.to - OUTER.from;
      const radius = (OUTER.from + OUTER.to) / 2;
      const turn = (2 * Math.PI) / places.length;
      // All pieces of one worker in one stroke.
      for (const [owner, pieces] of piecesByOwner(places, rows)) {
        context.strokeStyle =
          owner === null ? '#8888' : `oklch(${dark ? 0.7 : 0.58} 0.13 ${view.live.hueOf(owner)})`;
        for (const marked of [true, false]) {
          context.globalAlpha = marked || chosen === undefined ? 1 : FAINT;
          context.beginPath();
          for (const at of pieces) {
            if (marked !== (chosen === undefined || places[at] === chosen)) continue;
            const from = at * turn - Math.PI / 2;
            context.moveTo(radius * Math.cos(from), radius * Math.sin(from));
            context.arc(0, 0, radius, from, from + 1.2 * turn);
          }
          context.stroke();
        }
      }
    };
    paint();
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const observer = new MutationObserver(paint);
    scheme.addEventListener('change', paint);
    observer.observe(document.documentElement, { attributes: true });
    return () => {
      scheme.removeEventListener('change', paint);
      observer.disconnect();
    };
  }, [places, owners, chosen]);
  return <canvas ref={canvas} width={pixels} height={pixels} aria-hidden="true" />;
}

function piecesByOwner(
  places: Uint16Array,
  rows: readonly InspectedPartition[],
): Map<string | null, number[]> {
  const pieces = new Map<string | null, number[]>();
  for (const [at, partition] of places.entries()) {
    const owner = rows[partition]?.owner ?? null;
    const of = pieces.get(owner);
    if (of === undefined) pieces.set(owner, [at]);
    else of.push(at);
  }
  return pieces;
}

function Moves({ moves, hueOf }: { moves: readonly Move[]; hueOf: (id: string) => number }): VNode {
  const name = (id: string | null): VNode =>
    id === null ? (
      <span class="dim">nobody</span>
    ) : (
      <span class="with-dot">
        <span class="dot owner" style={{ '--hue': hueOf(id) }} />
        <code>{short(id)}</code>
      </span>
    );
  return (
    <>
      <h3>Moves</h3>
      {moves.length === 0 ? (
        <p class="dim">
          None since this page looks. When a worker comes or leaves, its share moves, and no other.
        </p>
      ) : (
        <ol class="moves">
          {moves.slice(0, 12).map(({ atMs, partition, from, to }) => (
            <li key={`${partition} ${atMs}`}>
              <time>{clock(atMs)}</time>
              <strong>{`Partition ${partition}`}</strong>
              {name(from)}
              <span>to</span>
              {name(to)}
            </li>
          ))}
        </ol>
      )}
    </>
  );
}

function Partitions({ rows, view, chosen, onChoose }: Chosen): VNode {
  const [sort, setSort] = useState<Sort>({ id: 'id', down: false });
  const columns: Column<InspectedPartition>[] = [
    {
      id: 'id',
      title: 'No.',
      width: 4,
      by: ({ id }) => id,
      cell: ({ id }) => (
        <button
          type="button"
          class="link"
          aria-pressed={chosen === id}
          aria-label={`Mark partition ${id} on the ring`}
          onClick={() => onChoose(chosen === id ? undefined : id)}
        >
          {id}
        </button>
      ),
    },
    {
      id: 'owner',
      title: 'Owner',
      by: ({ owner }) => owner ?? '',
      cell: ({ owner }) =>
        owner === null ? (
          '–'
        ) : (
          <span class="with-dot" title={owner}>
            <span class="dot owner" style={{ '--hue': view.live.hueOf(owner) }} />
            <code>{short(owner)}</code>
          </span>
        ),
    },
    {
      id: 'state',
      title: 'State',
      width: 7,
      by: ({ state }) => state,
      cell: ({ state, moves }) => (
        <Badge tone={TONES[state]}>{moves > 0 ? `${state}, ${moves} moves` : state}</Badge>
      ),
    },
    {
      id: 'epoch',
      title: 'Epoch',
      width: 5,
      numeric: true,
      priority: 2,
      by: ({ epoch }) => epoch,
      cell: ({ epoch }) => count(epoch),
    },
    {
      id: 'keys',
      title: 'Keys',
      width: 6,
      numeric: true,
      priority: 2,
      by: ({ keys }) => keys,
      cell: ({ keys }) => count(keys),
    },
    {
      id: 'bytes',
      title: 'Memory',
      width: 6,
      numeric: true,
      priority: 3,
      by: (row) => row.bytes,
      cell: (row) => bytes(row.bytes),
    },
    {
      id: 'log',
      title: 'Log',
      width: 6,
      numeric: true,
      priority: 3,
      by: ({ logSequence }) => logSequence,
      cell: ({ logSequence }) => count(logSequence),
    },
  ];
  return (
    <Table
      label="Partitions"
      columns={columns}
      rows={sorted(rows, columns, sort)}
      keyOf={({ id }) => id}
      sort={sort}
      onSort={setSort}
      selected={chosen}
    />
  );
}
