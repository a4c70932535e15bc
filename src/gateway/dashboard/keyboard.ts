/** Keys that work everywhere on the page, unless somebody writes. */
export interface Shortcut {
  keys: string;
  what: string;
}

export const SHORTCUTS: readonly Shortcut[] = [
  { keys: '1 … 9', what: 'go to a view' },
  { keys: '← →', what: 'between views, with the focus on one of them' },
  { keys: '/', what: 'filter' },
  { keys: 'p', what: 'pause and go on' },
  { keys: 't', what: 'dark, light, as the system has it' },
  { keys: 'Esc', what: 'leave a field, close what is open' },
  { keys: '?', what: 'this list' },
];

export interface KeyTargets {
  go: (index: number) => void;
  step: (by: number) => void;
  filter: () => void;
  pause: () => void;
  theme: () => void;
  close: () => void;
  help: () => void;
}

export function listen(targets: () => KeyTargets): () => void {
  const onKey = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    const element = target instanceof Element ? target : document.body;
    // A dialog has keys of its own.
    if (element.closest('dialog') !== null) return;
    const { go, step, filter, pause, theme, close, help } = targets();
    if (element.matches('input, select, textarea')) {
      if (event.key === 'Escape' && element instanceof HTMLElement) element.blur();
      return;
    }
    const along = element.closest('nav') === null ? 0 : { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (along) step(along);
    else if (/^[1-9]$/.test(event.key)) go(Number(event.key) - 1);
    else if (event.key === '/') filter();
    else if (event.key === 'p') pause();
    else if (event.key === 't') theme();
    else if (event.key === 'Escape') close();
    else if (event.key === '?') help();
    else return;
    event.preventDefault();
  };
  document.addEventListener('keydown', onKey);
  return () => document.removeEventListener('keydown', onKey);
}
