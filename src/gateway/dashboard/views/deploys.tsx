import type { VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { VersionInfo } from '../../../client/deploys.ts';
import type { LiveParts } from '../../live-parts.ts';
import { ask, messageOf, part } from '../api.ts';
import type { View } from '../context.ts';
import { ago, bytes, percent, plural } from '../format.ts';
import {
  Action,
  Badge,
  Empty,
  Filter,
  Loaded,
  Panel,
  Skeleton,
  type Tone,
} from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';

type Deployed = LiveParts['deploys'][number];

const TONES: Record<VersionInfo['state'], Tone> = {
  running: 'good',
  canary: 'info',
  previous: 'plain',
  kept: 'plain',
};

interface Changed {
  version: string;
  workers: number;
}

export function Deploys(view: View & { chosen: string | undefined }): VNode {
  const { live, me, now, act, confirm, chosen } = view;
  const [sort, setSort] = useState<Sort>({ id: 'name', down: false });
  const [filter, setFilter] = useState('');
  const { deploys } = live.parts;
  const { operate } = me.can;
  const change = (name: string, path: string): void =>
    act(`Change ${name}`, async () => {
      const { version, workers } = await ask<Changed>(`deploys/${part(name)}/${path}`, {
        method: 'POST',
      });
      return `${name} runs ${version} on ${plural(workers, 'worker')}.`;
    });
  const rollback = (name: string, to?: string): void =>
    confirm({
      title: `Roll ${name} back?`,
      text:
        to === undefined
          ? 'What ran before runs again, on all workers at once. Invocations in flight end on the present version.'
          : `Version ${to} runs again, on all workers at once. Invocations in flight end on the present version.`,
      confirm: 'Roll back',
      onConfirm: () => change(name, to === undefined ? 'rollback' : `rollback?version=${part(to)}`),
    });
  const promote = (name: string): void =>
    confirm({
      title: `Promote the canary of ${name}?`,
      text: 'All calls go to the new version.',
      confirm: 'Promote',
      onConfirm: () => change(name, 'promote'),
    });
  const columns: Column<Deployed>[] = [
    {
      id: 'name',
      title: 'Function',
      by: ({ name }) => name,
      cell: ({ name }) => <a href={`#deploys/${name}`}>{name}</a>,
    },
    {
      id: 'version',
      title: 'Version',
      width: 13.5,
      by: ({ version }) => version,
      cell: ({ version, canary, takenBack }) => (
        <span class="with-badge">
          <code>{version}</code>
          {canary !== undefined && <Badge tone="info">{`canary ${percent(canary.share)}`}</Badge>}
          {canary === undefined && takenBack !== undefined && (
            <span title={takenBack.why}>
              <Badge tone="bad">canary taken back</Badge>
            </span>
          )}
        </span>
      ),
    },
    {
      id: 'at',
      title: 'Deployed',
      width: 8,
      priority: 2,
      by: ({ at }) => at,
      cell: ({ at }) => ago(at, now),
    },
    { id: 'by', title: 'By', width: 10, priority: 3, by: ({ by }) => by, cell: ({ by }) => by },
    {
      id: 'actions',
      title: 'Actions',
      width: 11.5,
      priority: 2,
      cell: ({ name, canary, previous }) => (
        <span class="buttons">
          {canary !== undefined && (
            <Action
              label="Promote"
              name={`Promote the canary of ${name}`}
              allowed={operate}
              onClick={() => promote(name)}
            />
          )}
          {(canary !== undefined || previous !== undefined) && (
            <Action
              label="Roll back"
              name={`Roll back ${name}`}
              allowed={operate}
              onClick={() => rollback(name)}
            />
          )}
        </span>
      ),
    },
  ];
  return (
    <div class={chosen === undefined ? '' : 'split'}>
      <Panel
        title="Deploys"
        note={deploys?.value && plural(deploys.value.length, 'function')}
        tools={<Filter what="deploys" value={filter} onInput={setFilter} />}
      >
        {!operate && <p class="hint">This key may look, and not act: it has no scope operate.</p>}
        <Loaded part={deploys} what="deploys">
          {(all) => {
            const rows = all.filter(({ name, by }) =>
              `${name} ${by}`.toLowerCase().includes(filter.toLowerCase()),
            );
            if (all.length === 0)
              return (
                <Empty title="Nothing is deployed">
                  millrace deploy DIR checks the functions of a folder and switches all workers to
                  them at once.
                </Empty>
              );
            if (rows.length === 0) return <Empty title="No deploy matches the filter" />;
            return (
              <Table
                label="Deploys"
                columns={columns}
                rows={sorted(rows, columns, sort)}
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
        <Versions
          key={chosen}
          name={chosen}
          view={view}
          stamp={deploys?.value?.find(({ name }) => name === chosen)?.at}
          onRollback={rollback}
          onPromote={promote}
        />
      )}
    </div>
  );
}

function Versions(props: {
  name: string;
  view: View;
  stamp: string | undefined;
  onRollback: (name: string, version?: string) => void;
  onPromote: (name: string) => void;
}): VNode {
  const { name, view, stamp, onRollback, onPromote } = props;
  const [versions, setVersions] = useState<VersionInfo[] | string>();
  useEffect(() => {
    ask<{ versions: VersionInfo[] }>(`deploys/${part(name)}`).then(
      (answer) => setVersions(answer.versions),
      (error: unknown) => setVersions(messageOf(error)),
    );
  }, [name, stamp]);
  return (
    <Panel
      title={`Versions of ${name}`}
      note="the newest first"
      tools={
        <a class="button" href="#deploys">
          Close
        </a>
      }
    >
      {versions === undefined && <Skeleton what="versions" />}
      {typeof versions === 'string' && <p class="problem">{versions}</p>}
      {Array.isArray(versions) && (
        <ol class="versions">
          {versions.map(({ version, state, at, by, message, bytes: size, source }) => (
            <li key={version}>
              <p class="with-badge">
                <code>{version}</code>
                <Badge tone={TONES[state]}>{state}</Badge>
                {state === 'canary' && (
                  <span class="buttons">
                    <Action
                      label="Promote"
                      name={`Promote version ${version} of ${name}`}
                      allowed={view.me.can.operate}
                      onClick={() => onPromote(name)}
                    />
                    <Action
                      label="Take back"
                      name={`Take back version ${version} of ${name}`}
                      allowed={view.me.can.operate}
                      onClick={() => onRollback(name)}
                    />
                  </span>
                )}
                {(state === 'previous' || state === 'kept') && (
                  <Action
                    label="Run"
                    name={`Run version ${version} of ${name}`}
                    allowed={view.me.can.operate}
                    onClick={() => onRollback(name, version)}
                  />
                )}
              </p>
              {message !== null && <p>{message}</p>}
              <p class="dim">{`${ago(at, view.now)} by ${by} · ${source} · ${bytes(size)}`}</p>
            </li>
          ))}
        </ol>
      )}
    </Panel>
  );
}
