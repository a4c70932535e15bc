/** Names of spans and their attributes: docs/telemetry.md has the same, a test holds the two together. */
export const SPANS = {
  publish: 'publish',
  invoke: 'invoke',
  deliver: 'deliver',
  run: 'run',
  commit: 'commit',
} as const;

/** Events inside of spans. */
export const SPAN_EVENTS = { emit: 'emit' } as const;

export const ATTRIBUTES = {
  system: 'messaging.system',
  subject: 'messaging.destination.name',
  id: 'messaging.message.id',
  function: 'millrace.function',
  version: 'millrace.version',
  worker: 'millrace.worker',
  invocation: 'millrace.invocation',
  attempt: 'millrace.attempt',
  runs: 'millrace.runs',
  partition: 'millrace.partition',
  stream: 'millrace.stream',
  sequence: 'millrace.sequence',
  events: 'millrace.events',
  transaction: 'millrace.transaction',
  participants: 'millrace.participants',
  keys: 'millrace.keys',
  emitted: 'millrace.emitted',
  lockMs: 'millrace.lock_ms',
  decideMs: 'millrace.decide_ms',
  outcome: 'millrace.outcome',
  error: 'error.type',
} as const;
