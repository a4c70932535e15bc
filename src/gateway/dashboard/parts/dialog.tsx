/** Asks before something that cannot be taken back. The browser's own dialog: it keeps the focus, and Escape closes it. */
import type { ComponentChildren, VNode } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';

export interface Question {
  title: string;
  text: ComponentChildren;
  confirm: string;
  danger?: boolean;
  onConfirm: () => void;
}

export function Dialog(props: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={props.onClose}>
      <h2 id={id}>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

export function Confirm({ question, onClose }: { question: Question; onClose: () => void }): VNode {
  const { title, text, confirm, danger = false, onConfirm } = question;
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{text}</p>
      <form method="dialog" class="buttons">
        <button type="submit">Cancel</button>
        <button type="submit" class={danger ? 'danger primary' : 'primary'} onClick={onConfirm}>
          {confirm}
        </button>
      </form>
    </Dialog>
  );
}
