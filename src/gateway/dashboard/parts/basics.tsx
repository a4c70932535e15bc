/** Small pieces that all views are made of. */
import type { ComponentChildren, VNode } from 'preact';
import { useId } from 'preact/hooks';
import { clock } from '../format.ts';
import type { Part } from '../live.ts';

export function Panel(props: {
  title: string;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}): VNode {
  const id = useId();
  return (
    <section class={`panel ${props.class ?? ''}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.note !== undefined && <p class="note">{props.note}</p>}
        {props.tools !== undefined && <div class="tools">{props.tools}</div>}
      </header>
      {props.children}
    </section>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): VNode {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}

/** What there is of a part of the live answer: a skeleton before it comes, what is wrong where it does not. */
export function Loaded<Value>(props: {
  part: Part<Value> | undefined;
  what: string;
  children: (value: Value) => ComponentChildren;
}): VNode {
  const { part, what, children } = props;
  if (part === undefined) return <Skeleton what={what} />;
  const { value, error, atMs } = part;
  return (
    <>
      {error !== undefined && (
        <p class="problem">
          {`The ${what} could not be asked for: ${error}`}
          {value !== undefined && ` Shown is what was known before ${clock(atMs)}.`}
        </p>
      )}
      {value !== undefined && children(value)}
    </>
  );
}

export function Skeleton({ what }: { what: string }): VNode {
  return (
    <div class="skeleton" role="status">
      <span class="hidden">{`Asking for ${what}`}</span>
      <div />
      <div />
      <div />
    </div>
  );
}

export type Tone = 'good' | 'warn' | 'bad' | 'plain' | 'info';

/** Never by its colour alone: it has a word. */
export function Badge({
  tone = 'plain',
  children,
}: {
  tone?: Tone;
  children: ComponentChildren;
}): VNode {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function Meter({ share, label }: { share: number; label: string }): VNode {
  const tone = share > 0.9 ? 'bad' : share > 0.7 ? 'warn' : 'good';
  const width = `${Math.min(100, Math.max(0, share * 100))}%`;
  return (
    <span class="meter" title={label}>
      <span class={`meter-fill ${tone}`} style={{ width }} />
    </span>
  );
}

export function Spark({
  values,
  tone = 'info',
}: {
  values: readonly number[];
  tone?: Tone;
}): VNode {
  const [width, height] = [160, 32];
  const top = Math.max(1e-9, ...values);
  const step = width / Math.max(1, values.length - 1);
  const points = values
    .map(
      (value, at) =>
        `${(at * step).toFixed(1)},${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`,
    )
    .join(' ');
  return (
    <svg
      class={`spark ${tone}`}
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      {values.length > 1 && (
        <>
          <polygon points={`0,${height} ${points} ${width},${height}`} />
          <polyline points={points} />
        </>
      )}
    </svg>
  );
}

export function Field(props: { label: string; children: ComponentChildren }): VNode {
  return (
    <label class="field">
      <span>{props.label}</span>
      {props.children}
    </label>
  );
}

export function Filter(props: {
  value: string;
  onInput: (text: string) => void;
  what: string;
}): VNode {
  return (
    <input
      type="search"
      class="filter"
      placeholder={`Filter ${props.what}`}
      aria-label={`Filter ${props.what}`}
      aria-keyshortcuts="/"
      value={props.value}
      onInput={({ currentTarget }) => props.onInput(currentTarget.value)}
    />
  );
}

/** A button for what this key may not do says why. */
export function Action(props: {
  label: string;
  /** With the thing that it is done to, for who does not see the row. */
  name: string;
  allowed: boolean;
  danger?: boolean;
  busy?: boolean;
  onClick: () => void;
}): VNode {
  const { label, name, allowed, danger = false, busy = false, onClick } = props;
  const why = allowed ? undefined : 'This key has no scope operate.';
  return (
    <button
      type="button"
      class={danger ? 'danger' : ''}
      aria-label={why === undefined ? name : `${name}: ${why}`}
      title={why}
      aria-disabled={!allowed || busy}
      onClick={() => allowed && !busy && onClick()}
    >
      {label}
    </button>
  );
}

export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren])[] }): VNode {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
