/** `millrace/testing`: a broker and workers of a test's own, as they are in production, and what a test asks of them. */
export { startTestMill, TestMill, type RecordedEvent, type TestMillOptions } from './test-mill.ts';
export { type Faults, type TransactionMessage } from './faults.ts';
export { type FaultName, type InvariantCheck, type InvariantReport } from './invariant.ts';
