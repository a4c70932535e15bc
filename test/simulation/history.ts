/** The checker is shared with the tests that run real processes. */
export { checkHistory, type Operation } from '../support/serializability.ts';
