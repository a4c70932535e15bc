export { connect, type ConnectOptions, type Mill } from './client/client.ts';
export type { DeadEvent, DeadFilter, DeadLetters } from './client/dead.ts';
export type {
  FunctionLogs,
  LogLine,
  LogNews,
  LogOptions,
  LogTail,
  TailOptions,
} from './client/logs.ts';
export type { LogLevel } from './bus/function-logs.ts';
export type { TelemetryOptions } from './telemetry/open.ts';
export type { InvokeOptions, StreamCallOptions } from './bus/invoke.ts';
export type { PublishOptions, PublishReceipt } from './bus/publisher.ts';
export {
  CallError,
  MillraceError,
  type ErrorBody,
  type ErrorCode,
  type ErrorOptions,
} from './core/errors.ts';
export type {
  InspectedKey,
  InspectedPage,
  InspectedValue,
  Inspection,
  ListOptions,
} from './client/inspect.ts';
export type {
  CacheReport,
  InspectedFunction,
  InspectedWaiting,
  InspectedWorker,
} from './core/report.ts';
export type { InspectedScale } from './core/scale.ts';
export type {
  InspectedPartition,
  InspectedTransactions,
  TransactionReport,
} from './core/state-report.ts';
export type { Candidate, Strategy, StrategyFactory } from './core/balance/strategy.ts';
export type { SettingsInput } from './core/settings.ts';
export type { CacheOptions } from './function/cache.ts';
export { defineFunction } from './function/define.ts';
export type { Isolation } from './function/isolation.ts';
export type { Collection, Context, FunctionEvent, InvocationInfo } from './function/context.ts';
export type {
  Balance,
  Delivery,
  FunctionDefinition,
  FunctionOptions,
} from './function/definition.ts';
export type { FunctionReference, InputOf, OutputOf, PartOf } from './function/reference.ts';
