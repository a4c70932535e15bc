import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface PeerInfo {
  readonly name: string;
  readonly label: string;
  /** Why this peer cannot run here, as the table says it. */
  readonly missing?: () => string | undefined;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** In the order of the table. Each is a file of this folder that exports a `Peer`. */
export const PEERS: readonly PeerInfo[] = [
  {
    name: 'millrace',
    label: 'millrace invoke',
    missing: () => (existsSync(here('../../dist/cli/main.js')) ? undefined : 'not built'),
  },
  { name: 'nats-request', label: 'nats nc.request' },
  { name: 'nats-request-tuned', label: 'nats nc.request, noAsyncTraces' },
  {
    name: 'moleculer',
    label: 'Moleculer 0.15, NATS',
    missing: () =>
      existsSync(here('./node_modules/moleculer/package.json')) ? undefined : 'not installed',
  },
  { name: 'bare-mux', label: 'bare mux (the limit)' },
];

/** The loop's own cost: calls that never leave the process. */
export const NOOP = 'noop';

/** What the ratios are taken against. */
export const BASES = { request: 'nats-request', moleculer: 'moleculer', mux: 'bare-mux' } as const;
