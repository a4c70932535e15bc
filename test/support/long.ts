/**
 * `npm run test:long` and `test:chaos`. What takes ten seconds and more of two cores is `it.runIf(isLong)` where other tests of its file
 * are `npm test`'s.
 */
export const isLong = process.env['TESTS'] !== undefined;
