import { render, type VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, ask, key, messageOf, type Identity } from './api.ts';
import type { View } from './context.ts';
import { listen, SHORTCUTS } from './keyboard.ts';
import { Live, type PartName } from './live.ts';
import { Confirm, Dialog, type Question } from './parts/dialog.tsx';
import { SignIn } from './sign-in.tsx';
import { applyTheme, nextTheme, storedTheme } from './theme.ts';
import { Dead } from './views/dead.tsx';
import { Deploys } from './views/deploys.tsx';
import { Functions } from './views/functions.tsx';
import { Overview } from './views/overview.tsx';
import { Ring } from './views/ring.tsx';
import { State } from './views/state.tsx';
import { Traces } from './views/traces.tsx';
import { Transactions } from './views/transactions.tsx';
import { Workers } from './views/workers.tsx';

interface ViewDefinition {
  id: string;
  title: string;
  parts: readonly PartName[];
  show: (view: View & { chosen: string | undefined }) => VNode;
}

const VIEWS: readonly ViewDefinition[] = [
  {
    id: 'overview',
    title: 'Overview',
    parts: ['workers', 'functions', 'partitions', 'transactions'],
    show: (view) => <Overview {...view} />,
  },
  { id: 'workers', title: 'Workers', parts: ['workers'], show: (view) => <Workers {...view} /> },
  {
    id: 'functions',
    title: 'Functions',
    parts: ['functions'],
    show: (view) => <Functions {...view} />,
  },
  { id: 'ring', title: 'Ring', parts: ['partitions'], show: (view) => <Ring {...view} /> },
  {
    id: 'transactions',
    title: 'Transactions',
    parts: ['transactions'],
    show: (view) => <Transactions {...view} />,
  },
  { id: 'traces', title: 'Traces', parts: ['traces'], show: (view) => <Traces {...view} /> },
  { id: 'dead', title: 'Dead letters', parts: ['dead'], show: (view) => <Dead {...view} /> },
  { id: 'deploys', title: 'Deploys', parts: ['deploys'], show: (view) => <Deploys {...view} /> },
  { id: 'state', title: 'State', parts: ['collections'], show: (view) => <State {...view} /> },
];
/** How long a message stays. */
const MESSAGE_MS = 6_000;

/** `#functions/order`: a view, and what is chosen in it. */
function place(): { index: number; chosen: string | undefined } {
  const [id = '', ...rest] = location.hash.slice(1).split('/');
  const index = Math.max(
    0,
    VIEWS.findIndex((view) => view.id === id),
  );
  return { index, chosen: rest.length === 0 ? undefined : decode(rest.join('/')) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function Page(): VNode {
  const [me, setMe] = useState<Identity>();
  const [refused, setRefused] = useState('');
  const signIn = (): void => {
    ask<Identity>('me').then(
      (identity) => {
        setMe(identity);
        setRefused('');
      },
      (error: unknown) => {
        setMe(undefined);
        const known = error instanceof ApiError && error.status === 401 && key.get() === '';
        setRefused(known ? 'key' : messageOf(error));
      },
    );
  };
  useEffect(signIn, []);
  const signOut = (): void => {
    key.set('');
    signIn();
  };
  if (me !== undefined) return <Dashboard me={me} onSignOut={signOut} onRefused={signIn} />;
  if (refused === '')
    return (
      <main class="sign-in">
        <p role="status">Asking the gateway …</p>
      </main>
    );
  return <SignIn why={refused === 'key' ? '' : refused} onSigned={signIn} />;
}

function Dashboard(props: { me: Identity; onSignOut: () => void; onRefused: () => void }): VNode {
  const { me, onSignOut, onRefused } = props;
  const [, redraw] = useState(0);
  const live = useRef<Live | undefined>(undefined);
  live.current ??= new Live(() => redraw((count) => count + 1));
  const [at, setAt] = useState(place);
  const [theme, setTheme] = useState(storedTheme);
  const [question, setQuestion] = useState<Question>();
  const [help, setHelp] = useState(false);
  const [message, setMessage] = useState<{ text: string; bad: boolean }>();
  const main = useRef<HTMLElement>(null);
  const { index, chosen } = at;
  const shown = VIEWS[index] as ViewDefinition;
  const { current } = live;
  const { connection } = current;

  useEffect(() => {
    const onHash = (): void => setAt(place());
    addEventListener('hashchange', onHash);
    return () => removeEventListener('hashchange', onHash);
  }, []);
  useEffect(() => {
    if (me.can.inspect) current.want(shown.parts);
    document.title = `${shown.title} · millrace`;
  }, [index, me]);
  useEffect(() => () => current.stop(), []);
  useEffect(() => applyTheme(theme), [theme]);
  useEffect(() => {
    if (connection.state === 'refused') onRefused();
  }, [connection.state]);
  useEffect(() => {
    if (message === undefined) return undefined;
    const timer = setTimeout(() => setMessage(undefined), MESSAGE_MS);
    return () => clearTimeout(timer);
  }, [message]);

  const go = (to: number): void => {
    const view = VIEWS[(to + VIEWS.length) % VIEWS.length];
    if (view === undefined) return;
    location.hash = view.id;
    document.querySelector<HTMLElement>(`nav a[href="#${view.id}"]`)?.focus();
  };
  const pause = (): void => current.pause(!current.paused);
  const changeTheme = (): void => setTheme(nextTheme(theme));
  const targets = {
    go,
    step: (by: number) => go(index + by),
    filter: () => main.current?.querySelector<HTMLInputElement>('input.filter')?.focus(),
    pause,
    theme: changeTheme,
    close: () => {
      if (chosen !== undefined) location.hash = shown.id;
    },
    help: () => setHelp(true),
  };
  const keys = useRef(targets);
  keys.current = targets;
  useEffect(() => listen(() => keys.current), []);

  const act: View['act'] = (what, run) => {
    run().then(
      (text) => {
        setMessage({ text, bad: false });
        current.refresh();
      },
      (error: unknown) => setMessage({ text: `${what}: ${messageOf(error)}`, bad: true }),
    );
  };
  const view = { live: current, me, now: Date.now(), confirm: setQuestion, act, chosen };
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to content
      </a>
      <header class="top">
        <h1>
          <img src="icon.svg" alt="" width="24" height="24" />
          millrace
          {me.namespace !== 'millrace' && <span class="dim">{me.namespace}</span>}
        </h1>
        <Status live={current} />
        <div class="buttons">
          <button type="button" aria-pressed={current.paused} aria-keyshortcuts="p" onClick={pause}>
            {current.paused ? 'Go on' : 'Pause'}
          </button>
          <button type="button" aria-keyshortcuts="t" onClick={changeTheme}>
            <span class="hidden">Theme: </span>
            {theme === 'system' ? 'Auto' : theme === 'dark' ? 'Dark' : 'Light'}
          </button>
          <button
            type="button"
            aria-label="Keyboard shortcuts"
            aria-keyshortcuts="?"
            onClick={() => setHelp(true)}
          >
            ?
          </button>
          {me.name !== null && (
            <button type="button" aria-label={`Sign out ${me.name}`} onClick={onSignOut}>
              Sign out
            </button>
          )}
        </div>
      </header>
      <nav aria-label="Views">
        {VIEWS.map(({ id, title }, at) => (
          <a
            key={id}
            href={`#${id}`}
            aria-current={at === index ? 'page' : undefined}
            aria-keyshortcuts={`${at + 1}`}
          >
            {title}
          </a>
        ))}
      </nav>
      <main id="main" ref={main} tabIndex={-1} aria-label={shown.title}>
        {me.can.inspect ? (
          <div key={shown.id} class="view">
            {shown.show(view)}
          </div>
        ) : (
          <p class="problem">{`The key ${me.name} has no scope inspect: there is nothing that it may see here.`}</p>
        )}
      </main>
      <div class="messages" role="status" aria-live="polite">
        {message !== undefined && (
          <p class={message.bad ? 'message bad' : 'message'}>{message.text}</p>
        )}
      </div>
      {question !== undefined && (
        <Confirm question={question} onClose={() => setQuestion(undefined)} />
      )}
      {help && (
        <Dialog title="Keyboard" onClose={() => setHelp(false)}>
          <dl class="shortcuts">
            {SHORTCUTS.map(({ keys: each, what }) => (
              <div key={each}>
                <dt>
                  <kbd>{each}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <p class="dim">{`millrace ${me.version}, namespace ${me.namespace}`}</p>
          <form method="dialog" class="buttons">
            <button type="submit" class="primary">
              Close
            </button>
          </form>
        </Dialog>
      )}
    </>
  );
}

const SAID = {
  connecting: 'Connecting',
  live: 'Live',
  paused: 'Paused',
  offline: 'No connection',
  refused: 'Not allowed',
};

/** Said aloud when it changes, not with each answer. */
function Status({ live }: { live: Live }): VNode {
  const { connection } = live;
  return (
    <p class={`status ${connection.state}`} role="status">
      <span class="dot" />
      {SAID[connection.state]}
      {'why' in connection && <span class="dim">{connection.why}</span>}
    </p>
  );
}

applyTheme(storedTheme());
const root = document.querySelector('#app');
if (root !== null) render(<Page />, root);
