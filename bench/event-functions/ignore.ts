import { defineFunction } from 'millrace';

/** Without state. */
export default defineFunction({ on: 'bench.ignore', from: 'start', handler() {} });
