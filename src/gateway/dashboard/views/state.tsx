import type { VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { InspectedKey, InspectedPage } from '../../../client/inspect.ts';
import { ask, messageOf, part } from '../api.ts';
import type { View } from '../context.ts';
import { count, plural, pretty, short } from '../format.ts';
import { Empty, Facts, Field, Loaded, Panel, Skeleton } from '../parts/basics.tsx';
import { Table, type Column } from '../parts/table.tsx';

const PAGE = 50;
const PREVIEW_CHARACTERS = 120;

type Item = InspectedPage['items'][number];

interface Place {
  collection: string;
  prefix: string;
  /** Of the pages before, the first one's ''. */
  cursors: readonly string[];
}

export function State(view: View): VNode {
  const { collections } = view.live.parts;
  const [place, setPlace] = useState<Place>();
  const [chosen, setChosen] = useState<string>();
  const go = (to: Place): void => {
    setChosen(undefined);
    setPlace(to);
  };
  const first = collections?.value?.[0]?.name;
  const shown =
    place ?? (first === undefined ? undefined : { collection: first, prefix: '', cursors: [''] });
  return (
    <div class={chosen === undefined ? '' : 'split'}>
      <Panel title="State" note="as it was at one moment; it does not move by itself">
        <Loaded part={collections} what="collections">
          {(all) =>
            all.length === 0 || shown === undefined ? (
              <Empty title="No state yet">
                Functions write it: await ctx.state('accounts').set(key, value)
              </Empty>
            ) : (
              <>
                <div class="fields">
                  <Field label="Collection">
                    <select
                      value={shown.collection}
                      onChange={({ currentTarget }) =>
                        go({ collection: currentTarget.value, prefix: '', cursors: [''] })
                      }
                    >
                      {all.map(({ name, keys }) => (
                        <option key={name} value={name}>{`${name} (${count(keys)})`}</option>
                      ))}
                    </select>
                  </Field>
                  <Field label="Keys that begin with">
                    <input
                      type="search"
                      class="filter"
                      aria-keyshortcuts="/"
                      value={shown.prefix}
                      onInput={({ currentTarget }) =>
                        go({ ...shown, prefix: currentTarget.value, cursors: [''] })
                      }
                    />
                  </Field>
                </div>
                <Page place={shown} chosen={chosen} onGo={go} onChoose={setChosen} />
              </>
            )
          }
        </Loaded>
      </Panel>
      {chosen !== undefined && shown !== undefined && (
        <Value
          key={chosen}
          collection={shown.collection}
          name={chosen}
          view={view}
          onClose={() => setChosen(undefined)}
        />
      )}
    </div>
  );
}

function Page(props: {
  place: Place;
  chosen: string | undefined;
  onGo: (to: Place) => void;
  onChoose: (key: string) => void;
}): VNode {
  const { place, chosen, onGo, onChoose } = props;
  const { collection, prefix, cursors } = place;
  const cursor = cursors.at(-1) ?? '';
  const [page, setPage] = useState<InspectedPage | string>();
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const asking = new AbortController();
    const after = cursor === '' ? '' : `&cursor=${part(cursor)}`;
    const path = `inspect/state?collection=${part(collection)}&prefix=${part(prefix)}&limit=${PAGE}${after}`;
    ask<InspectedPage>(path, { signal: asking.signal }).then(
      setPage,
      (error: unknown) => asking.signal.aborted || setPage(messageOf(error)),
    );
    return () => asking.abort();
  }, [collection, prefix, cursor, again]);
  const columns: Column<Item>[] = [
    {
      id: 'key',
      title: 'Key',
      width: 16,
      cell: ({ key }) => (
        <button
          type="button"
          class="link"
          aria-pressed={chosen === key}
          onClick={() => onChoose(key)}
        >
          <code>{key}</code>
        </button>
      ),
    },
    {
      id: 'value',
      title: 'Value',
      cell: ({ value }) => (
        <code class="dim">{(JSON.stringify(value) ?? '').slice(0, PREVIEW_CHARACTERS)}</code>
      ),
    },
    {
      id: 'version',
      title: 'Version',
      width: 6,
      numeric: true,
      priority: 3,
      cell: ({ version }) => count(version),
    },
  ];
  if (page === undefined) return <Skeleton what="keys" />;
  const from = (cursors.length - 1) * PAGE + 1;
  const { items, cursor: next } = typeof page === 'string' ? { items: [], cursor: null } : page;
  return (
    <>
      {typeof page === 'string' && <p class="problem">{page}</p>}
      {typeof page === 'object' && items.length === 0 && (
        <Empty title={prefix === '' ? 'This collection has no keys' : 'No key begins like this'} />
      )}
      {items.length > 0 && (
        <Table
          label={`Keys of ${collection}`}
          columns={columns}
          rows={items}
          keyOf={({ key }) => key}
          selected={chosen}
          maxRows={PAGE}
        />
      )}
      <div class="buttons pages">
        <button
          type="button"
          disabled={cursors.length === 1}
          onClick={() => onGo({ ...place, cursors: cursors.slice(0, -1) })}
        >
          Previous
        </button>
        <button
          type="button"
          disabled={next === null}
          onClick={() => next !== null && onGo({ ...place, cursors: [...cursors, next] })}
        >
          Next
        </button>
        <button type="button" onClick={() => setAgain(again + 1)}>
          Ask again
        </button>
        <span class="dim">
          {items.length > 0 && `${count(from)} to ${count(from + items.length - 1)}`}
        </span>
      </div>
    </>
  );
}

interface Known {
  value: unknown;
  version: number;
  place: InspectedKey;
}

function Value(props: {
  collection: string;
  name: string;
  view: View;
  onClose: () => void;
}): VNode {
  const { collection, name, view, onClose } = props;
  const [known, setKnown] = useState<Known | string>();
  useEffect(() => {
    const query = `collection=${part(collection)}&key=${part(name)}`;
    Promise.all([
      ask<{ value: unknown; version: number }>(`inspect/state?${query}`),
      ask<InspectedKey>(`inspect/key?${query}`),
    ]).then(
      ([{ value, version }, place]) => setKnown({ value, version, place }),
      (error: unknown) => setKnown(messageOf(error)),
    );
  }, [collection, name]);
  return (
    <Panel
      title={`${collection}/${name}`}
      tools={
        <button type="button" onClick={onClose}>
          Close
        </button>
      }
    >
      {known === undefined && <Skeleton what="the value" />}
      {typeof known === 'string' && <p class="problem">{known}</p>}
      {typeof known === 'object' && (
        <>
          <pre tabIndex={0} role="region" aria-label="Value">
            {pretty(known.value)}
          </pre>
          <Facts
            of={[
              ['Version', count(known.version)],
              ['Partition', `${known.place.partition}`],
              [
                'Owner',
                <span key="owner" class="with-dot" title={known.place.owner}>
                  <span class="dot owner" style={{ '--hue': view.live.hueOf(known.place.owner) }} />
                  <code>{short(known.place.owner)}</code>
                </span>,
              ],
              [
                'Locked by',
                known.place.lockedBy === null ? (
                  'nobody'
                ) : (
                  <code key="lock">{known.place.lockedBy}</code>
                ),
              ],
              ['Size', plural(JSON.stringify(known.value)?.length ?? 0, 'character')],
            ]}
          />
        </>
      )}
    </Panel>
  );
}
