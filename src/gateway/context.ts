import type { Bus } from '../bus/connection.ts';
import type { Mill } from '../client/client.ts';
import type { Settings } from '../core/settings.ts';
import type { Access } from './access.ts';
import type { Routes } from './routes.ts';
import type { TraceStore } from './trace-store.ts';

/** What the gateway's routes share. */
export interface GatewayContext {
  mill: Mill;
  bus: Bus;
  settings: Settings;
  access: Access;
  routes: Routes;
  traces: TraceStore;
  /** Where webhooks' secrets are. */
  environment: NodeJS.ProcessEnv;
  /** The package's. */
  version: string;
  hasKeys: boolean;
  /** Aborted when it is told to stop. */
  closing: AbortSignal;
}
