/** `ctx.signal`: an AbortSignal whose listeners cannot end the process. */

type Listener = ((event: Event) => unknown) | { handleEvent: (event: Event) => unknown };
type Guarded = (event: Event) => void;

/**
 * What a listener throws, or the promise it returns rejects with, goes to `onMistake`. Node would make it an uncaught
 * exception of the process, though nothing is half done but the listener itself. A signal that user code derives from
 * this one (`AbortSignal.any`) is its own.
 */
export function guardSignal(signal: AbortSignal, onMistake: (thrown: unknown) => void): void {
  // The same one for the same listener: by it the signal knows whom to remove, and whom it has already.
  const known = new WeakMap<Listener, Guarded>();
  const guarded = (listener: Listener): Guarded => {
    const made = known.get(listener) ?? guardedListener(signal, listener, onMistake);
    known.set(listener, made);
    return made;
  };
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  let onabort: Guarded | null = null;
  Object.defineProperties(signal, {
    addEventListener: {
      value: (type: string, listener: unknown, options?: Parameters<typeof add>[2]) =>
        add(type, isListener(listener) ? guarded(listener) : (listener as Guarded), options),
    },
    removeEventListener: {
      value: (type: string, listener: unknown, options?: Parameters<typeof remove>[2]) =>
        remove(type, isListener(listener) ? guarded(listener) : (listener as Guarded), options),
    },
    onabort: {
      get: () => onabort,
      set: (listener: unknown) => {
        if (onabort !== null) remove('abort', guarded(onabort));
        onabort = typeof listener === 'function' ? (listener as Guarded) : null;
        if (onabort !== null) add('abort', guarded(onabort));
      },
    },
  });
}

function guardedListener(
  signal: AbortSignal,
  listener: Listener,
  onMistake: (thrown: unknown) => void,
): Guarded {
  return (event) => {
    try {
      const result =
        typeof listener === 'function' ? listener.call(signal, event) : listener.handleEvent(event);
      void Promise.resolve(result).catch(onMistake);
    } catch (thrown) {
      onMistake(thrown);
    }
  };
}

/** What is none is left to the signal to refuse. */
function isListener(value: unknown): value is Listener {
  return typeof value === 'function' || (typeof value === 'object' && value !== null);
}
