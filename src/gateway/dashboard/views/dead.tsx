import type { VNode } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { DeadRow } from '../../live-parts.ts';
import { ask, messageOf } from '../api.ts';
import type { View } from '../context.ts';
import { ago, clock, plural, pretty } from '../format.ts';
import { Action, Badge, Empty, Facts, Filter, Loaded, Panel, Skeleton } from '../parts/basics.tsx';
import { sorted, Table, type Column, type Sort } from '../parts/table.tsx';

interface Letter {
  number: number;
  function: string;
  id: string;
  subject: string;
  stream: string;
  sequence: number;
  time: string;
  givenUpAt: string;
  headers: Record<string, string>;
  attempts: number;
  failures: {
    at: string;
    attempt: number;
    code: string;
    message: string;
    stack?: string;
    version: string;
    worker: string;
  }[];
  data?: unknown;
  withoutPayload?: boolean;
}

/** As many as are asked for at once. */
const LIMIT = 100;

export function Dead(view: View & { chosen: string | undefined }): VNode {
  const { live, me, now, act, confirm, chosen } = view;
  const [sort, setSort] = useState<Sort>({ id: 'number', down: true });
  const [filter, setFilter] = useState('');
  const { dead } = live.parts;
  const operate = me.can.operate;
  const replay = ({ number, function: name }: { number: number; function: string }): void =>
    act(`Replay dead letter ${number}`, async () => {
      await ask(`dead/${number}/replay`, { method: 'POST' });
      return `Dead letter ${number} is handled by ${name} again.`;
    });
  const drop = ({
    number,
    function: name,
    subject,
  }: {
    number: number;
    function: string;
    subject: string;
  }): void =>
    confirm({
      title: `Drop dead letter ${number}?`,
      text: `The event of ${subject} that ${name} has given up is gone for good then. It is not handled.`,
      confirm: 'Drop it',
      danger: true,
      onConfirm: () =>
        act(`Drop dead letter ${number}`, async () => {
          await ask(`dead/${number}`, { method: 'DELETE' });
          return `Dead letter ${number} is gone.`;
        }),
    });
  const columns: Column<DeadRow>[] = [
    {
      id: 'number',
      title: 'No.',
      width: 4,
      by: ({ number }) => number,
      cell: ({ number }) => (
        <a href={`#dead/${number}`} aria-label={`Dead letter ${number}`}>
          {number}
        </a>
      ),
    },
    {
      id: 'function',
      title: 'Function',
      width: 8,
      by: (row) => row.function,
      cell: (row) => row.function,
    },
    {
      id: 'subject',
      title: 'Subject',
      width: 10,
      priority: 3,
      by: ({ subject }) => subject,
      cell: ({ subject }) => subject,
    },
    {
      id: 'error',
      title: 'Error',
      by: ({ code }) => code,
      cell: ({ code, message }) => (
        <span title={`${code}: ${message}`}>{message === '' ? code : message}</span>
      ),
    },
    {
      id: 'when',
      title: 'Given up',
      width: 8,
      priority: 3,
      by: ({ givenUpAt }) => givenUpAt,
      cell: ({ givenUpAt }) => ago(givenUpAt, now),
    },
    {
      id: 'actions',
      title: 'Actions',
      width: 10,
      priority: 2,
      cell: (row) => (
        <span class="buttons">
          <Action
            label="Replay"
            name={`Replay dead letter ${row.number}`}
            allowed={operate}
            onClick={() => replay(row)}
          />
          <Action
            label="Drop"
            name={`Drop dead letter ${row.number}`}
            danger
            allowed={operate}
            onClick={() => drop(row)}
          />
        </span>
      ),
    },
  ];
  return (
    <div class={chosen === undefined ? '' : 'split'}>
      <Panel
        title="Dead letters"
        note={
          dead?.value &&
          (dead.value.length >= LIMIT
            ? `the oldest ${LIMIT}`
            : plural(dead.value.length, 'dead letter'))
        }
        tools={<Filter what="dead letters" value={filter} onInput={setFilter} />}
      >
        {!operate && <p class="hint">This key may look, and not act: it has no scope operate.</p>}
        <Loaded part={dead} what="dead letters">
          {(all) => {
            const text = filter.toLowerCase();
            const rows = all.filter((row) =>
              `${row.function} ${row.subject} ${row.code} ${row.message}`
                .toLowerCase()
                .includes(text),
            );
            if (all.length === 0)
              return (
                <Empty title="No dead letters">
                  A durable event that its function has failed to handle as often as it may comes
                  here, with its errors.
                </Empty>
              );
            if (rows.length === 0) return <Empty title="No dead letter matches the filter" />;
            return (
              <Table
                label="Dead letters"
                columns={columns}
                rows={sorted(rows, columns, sort)}
                keyOf={({ number }) => number}
                sort={sort}
                onSort={setSort}
                selected={chosen === undefined ? undefined : Number(chosen)}
              />
            );
          }}
        </Loaded>
      </Panel>
      {chosen !== undefined && (
        <Details key={chosen} number={chosen} operate={operate} replay={replay} drop={drop} />
      )}
    </div>
  );
}

function Details(props: {
  number: string;
  operate: boolean;
  replay: (letter: Letter) => void;
  drop: (letter: Letter) => void;
}): VNode {
  const { number, operate, replay, drop } = props;
  const [letter, setLetter] = useState<Letter | string>();
  useEffect(() => {
    ask<Letter>(`dead/${encodeURIComponent(number)}`).then(setLetter, (error: unknown) =>
      setLetter(messageOf(error)),
    );
  }, [number]);
  const close = (
    <a class="button" href="#dead">
      Close
    </a>
  );
  if (letter === undefined)
    return (
      <Panel title={`Dead letter ${number}`} tools={close}>
        <Skeleton what="the dead letter" />
      </Panel>
    );
  if (typeof letter === 'string')
    return (
      <Panel title={`Dead letter ${number}`} tools={close}>
        <p class="problem">{letter}</p>
      </Panel>
    );
  return (
    <Panel title={`Dead letter ${number}`} tools={close}>
      <Facts
        of={[
          ['Function', letter.function],
          ['Subject', letter.subject],
          ['Event', <code key="id">{letter.id}</code>],
          [
            'Stored',
            `${new Date(letter.time).toLocaleString()}, ${letter.stream} ${letter.sequence}`,
          ],
          ['Attempts', `${letter.attempts}`],
        ]}
      />
      <div class="buttons">
        <Action
          label="Replay"
          name={`Replay dead letter ${number} from its details`}
          allowed={operate}
          onClick={() => replay(letter)}
        />
        <Action
          label="Drop"
          name={`Drop dead letter ${number} from its details`}
          danger
          allowed={operate}
          onClick={() => drop(letter)}
        />
      </div>
      <h3>Payload</h3>
      {letter.withoutPayload === true ? (
        <p class="dim">It was too large to be kept here; its stream has it.</p>
      ) : (
        <pre tabIndex={0} role="region" aria-label="Payload">
          {pretty(letter.data)}
        </pre>
      )}
      <h3>Failures</h3>
      <ol class="failures" reversed>
        {letter.failures
          .toReversed()
          .map(({ at, attempt, code, message, stack, version, worker }) => (
            <li key={attempt}>
              <p>
                <Badge tone="bad">{code}</Badge>
                {` attempt ${attempt} at ${clock(at)}, version ${version.slice(0, 12)}, worker `}
                <code>{worker}</code>
              </p>
              <pre tabIndex={0} role="region" aria-label={`Error of attempt ${attempt}`}>
                {stack ?? message}
              </pre>
            </li>
          ))}
      </ol>
      {Object.keys(letter.headers).length > 0 && (
        <>
          <h3>Headers</h3>
          <pre tabIndex={0} role="region" aria-label="Headers">
            {pretty(letter.headers)}
          </pre>
        </>
      )}
    </Panel>
  );
}
