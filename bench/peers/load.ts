import type { Peer } from '../protocol.ts';

/** By name, each loaded only in its own processes. */
const FILES: Readonly<Record<string, () => Promise<{ default: Peer }>>> = {
  noop: () => import('./noop.ts'),
  millrace: () => import('./millrace.ts'),
  'nats-request': () => import('./nats-request.ts'),
  'nats-request-tuned': () => import('./nats-request-tuned.ts'),
  moleculer: () => import('./moleculer.ts'),
  'bare-mux': () => import('./bare-mux.ts'),
};

export async function loadPeer(name: string): Promise<Peer> {
  const load = FILES[name];
  if (load === undefined) throw new Error(`no peer named ${name}`);
  return (await load()).default;
}
