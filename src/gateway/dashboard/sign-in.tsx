import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { key } from './api.ts';

export function SignIn({ why, onSigned }: { why: string; onSigned: () => void }): VNode {
  const [text, setText] = useState('');
  return (
    <main class="sign-in">
      <img src="icon.svg" alt="" width="56" height="56" />
      <h1>millrace</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          key.set(text.trim());
          onSigned();
        }}
      >
        <label class="field">
          <span>API key</span>
          <input
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={text}
            onInput={({ currentTarget }) => setText(currentTarget.value)}
          />
        </label>
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
      {why !== '' && (
        <p class="problem" role="alert">
          {why}
        </p>
      )}
      <p class="dim">
        It needs the scope <code>inspect</code>, and <code>operate</code> to replay, drop and roll
        back. It stays in this tab, until it is closed.
      </p>
    </main>
  );
}
