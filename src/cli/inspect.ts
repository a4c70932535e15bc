import { Argument, type Command } from 'commander';
import { connect } from '../client/client.ts';
import type { InspectedFunction, InspectedWorker } from '../core/report.ts';
import {
  connectOptions,
  withConnection,
  withJson,
  type ConnectionFlags,
  type OutputFlags,
} from './options.ts';
import { print, printJson, table } from './output.ts';

export function inspectCommand(program: Command): void {
  withJson(withConnection(program.command('inspect')))
    .summary('show workers or functions')
    .description('Asks the workers, over request-reply, and shows what they say.')
    .addArgument(new Argument('<what>', 'what to look at').choices(['workers', 'functions']))
    .action(async (what: 'workers' | 'functions', flags: ConnectionFlags & OutputFlags) => {
      await using mill = await connect(await connectOptions(flags));
      if (what === 'workers') {
        const workers = await mill.inspect.workers();
        if (flags.json) printJson({ workers });
        else print(workersTable(workers));
      } else {
        const functions = await mill.inspect.functions();
        if (flags.json) printJson({ functions });
        else print(functionsTable(functions));
      }
    });
}

function workersTable(workers: readonly InspectedWorker[]): string {
  return table(
    ['WORKER', 'STATE', 'PID', 'HOST', 'UP', 'FUNCTIONS', 'IN FLIGHT', 'CAPACITY'],
    workers.map(({ id, state, pid, host, startedAt, functions, inFlight, capacity }) => [
      id,
      state,
      pid,
      host,
      age(startedAt),
      functions.length,
      inFlight,
      capacity,
    ]),
  );
}

function functionsTable(functions: readonly InspectedFunction[]): string {
  return table(
    ['FUNCTION', 'VERSION', 'ON', 'WORKERS', 'CALLS', 'ERRORS', 'PENDING', 'P50 MS', 'P99 MS'],
    functions.map((each) => [
      each.name,
      each.version,
      each.on.join(' ') || '-',
      each.workers,
      each.calls,
      each.errors,
      each.pending,
      each.latencyMs.p50,
      each.latencyMs.p99,
    ]),
  );
}

/** How long ago, in the largest unit that fits. */
function age(since: string): string {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1_000));
  if (Number.isNaN(seconds)) return '-';
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
