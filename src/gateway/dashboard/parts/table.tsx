/** A table of any number of rows, of which only those in sight are built. It stays a table for who listens instead of looking. */
import { type ComponentChildren, type VNode } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

export interface Column<Row> {
  id: string;
  title: string;
  /** In `rem`; what is left goes to those without one. */
  width?: number;
  numeric?: boolean;
  /** Left out where there is little room: 2 below a small screen's width, 3 below a tablet's. */
  priority?: 2 | 3;
  /** What it is sorted by; without it it cannot be. */
  by?: (row: Row) => number | string;
  cell: (row: Row) => ComponentChildren;
}

export interface Sort {
  id: string;
  down: boolean;
}

const ROW_PX = 38;
/** What is built moves on by so many rows at once: most frames of a scroll build nothing. */
const STEP_ROWS = 8;
const OVERSCAN = STEP_ROWS + 4;
/** A list that fits is not worth a frame of its own. */
const MAX_VISIBLE = 16;

interface TableProps<Row> {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string | number;
  sort?: Sort;
  onSort?: (sort: Sort) => void;
  selected?: string | number | undefined;
  /** Rows that lie higher than the window's. */
  maxRows?: number;
  rowClass?: (row: Row) => string;
}

export function sorted<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  { id, down }: Sort,
): readonly Row[] {
  const by = columns.find((column) => column.id === id)?.by;
  if (by === undefined) return rows;
  const keyed = rows.map((row, at) => ({ row, key: by(row), at }));
  const sign = down ? -1 : 1;
  keyed.sort((a, b) => (a.key === b.key ? a.at - b.at : a.key < b.key ? -sign : sign));
  return keyed.map(({ row }) => row);
}

export function Table<Row>(props: TableProps<Row>): VNode {
  const { label, columns, rows, keyOf, selected, maxRows = MAX_VISIBLE, rowClass } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(maxRows * ROW_PX);
  useLayoutEffect(() => {
    const { current } = scroller;
    if (current === null) return undefined;
    const observer = new ResizeObserver(() => setHeight(current.clientHeight));
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  const fits = rows.length <= maxRows;
  const first = fits ? 0 : Math.max(0, Math.min(top, rows.length) - OVERSCAN);
  const last = fits
    ? rows.length
    : Math.min(rows.length, top + Math.ceil(height / ROW_PX) + OVERSCAN);
  const onScroll = (): void => {
    const at = (scroller.current?.scrollTop ?? 0) / ROW_PX;
    const row = Math.floor(at / STEP_ROWS) * STEP_ROWS;
    if (row !== top) setTop(row);
  };
  return (
    <div
      class={fits ? 'table' : 'table scrolls'}
      ref={scroller}
      onScroll={onScroll}
      role="group"
      aria-label={label}
      // What can be scrolled must be reached by keys.
      tabIndex={0}
    >
      <table aria-rowcount={rows.length + 1}>
        <caption class="hidden">{label}</caption>
        <thead>
          <tr aria-rowindex={1}>
            {columns.map((column) => (
              <Head key={column.id} column={column} {...props} />
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <Gap rows={first} />}
          {rows.slice(first, last).map((row, at) => {
            const key = keyOf(row);
            const chosen = selected !== undefined && key === selected;
            return (
              <tr
                key={key}
                aria-rowindex={first + at + 2}
                class={`${chosen ? 'chosen ' : ''}${rowClass?.(row) ?? ''}`}
              >
                {columns.map((column) => (
                  <td key={column.id} class={classOf(column)}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
          {last < rows.length && <Gap rows={rows.length - last} />}
        </tbody>
      </table>
    </div>
  );
}

function Head<Row>({ column, sort, onSort }: TableProps<Row> & { column: Column<Row> }): VNode {
  const { id, title, by, width, numeric = false } = column;
  const style = width === undefined ? {} : { width: `${width}rem` };
  if (by === undefined || onSort === undefined) {
    return (
      <th scope="col" class={classOf(column)} style={style}>
        {title}
      </th>
    );
  }
  const active = sort?.id === id;
  const down = active ? !sort.down : numeric;
  return (
    <th
      scope="col"
      class={classOf(column)}
      style={style}
      aria-sort={active ? (sort.down ? 'descending' : 'ascending') : 'none'}
    >
      <button type="button" class="sort" onClick={() => onSort({ id, down })}>
        {title}
        <span aria-hidden="true">{active ? (sort.down ? '↓' : '↑') : ''}</span>
      </button>
    </th>
  );
}

/** One cell: more than there are columns in sight would make columns of their own. */
function Gap({ rows }: { rows: number }): VNode {
  return (
    <tr class="gap" aria-hidden="true">
      <td style={{ height: `${rows * ROW_PX}px` }} />
    </tr>
  );
}

function classOf({
  numeric = false,
  priority,
}: Pick<Column<never>, 'numeric' | 'priority'>): string {
  return `${numeric ? 'numeric' : ''}${priority === undefined ? '' : ` priority-${priority}`}`;
}
