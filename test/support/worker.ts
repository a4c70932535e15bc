import pino, { type Logger } from 'pino';
import type { Bus } from '../../src/bus/connection.ts';
import { openBus, type ConnectOptions } from '../../src/client/client.ts';
import type { MillraceError } from '../../src/core/errors.ts';
import type { SettingsInput } from '../../src/core/settings.ts';
import type { FunctionDefinition } from '../../src/function/definition.ts';
import type { Tracing } from '../../src/telemetry/tracing.ts';
import { logProblem } from '../../src/worker/logger.ts';
import { Secrets } from '../../src/worker/secrets.ts';
import { startWithin } from '../../src/worker/starting.ts';
import { Worker } from '../../src/worker/worker.ts';

export interface TestWorker {
  worker: Worker;
  id: string;
  bus: Bus;
  logs: Record<string, unknown>[];
  offer(functions: readonly FunctionDefinition[], version?: string): Promise<void>;
  stop(): Promise<boolean>;
}

/** A worker inside the test's own process, for functions that the test defines itself. */
export async function startTestWorker(
  url: string,
  functions: readonly FunctionDefinition[],
  settings: SettingsInput = {},
  tracing?: Tracing,
  connect: ConnectOptions = {},
): Promise<TestWorker> {
  const logs: Record<string, unknown>[] = [];
  const log: Logger = pino(
    { level: 'debug' },
    { write: (line: string) => void logs.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const onProblem = (problem: MillraceError): void => logProblem(log, problem);
  const servers = url.split(',');
  const opened = await openBus({ servers, ...connect, settings, onProblem }, 'test-worker');
  const secrets = new Secrets({ environment: process.env });
  const worker = new Worker({ ...opened, log, version: '0.0.0', tracing, secrets });
  const offer = (definitions: readonly FunctionDefinition[], version = 'v1'): Promise<void> =>
    worker.offer(
      definitions.map((definition) => ({
        definition,
        name: definition.name ?? 'unnamed',
        file: 'test.ts',
        version,
        subjects: definition.on,
      })),
    );
  await startWithin({
    start: () => offer(functions),
    onNotYet: ({ code, message }) => log.warn({ code }, `not ready yet: ${message}`),
  });
  return {
    worker,
    id: worker.id,
    bus: opened.bus,
    logs,
    offer,
    async stop() {
      const clean = await worker.drain();
      await opened.bus.close();
      return clean;
    },
  };
}
