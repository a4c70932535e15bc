import { monitorEventLoopDelay } from 'node:perf_hooks';
import { defineFunction } from 'millrace';

const NS_PER_MS = 1_000_000;
const RESOLUTION_MS = 1;
const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delays.enable();

/** How late this worker's event loop was since it was asked last, ms. */
export default defineFunction({
  name: 'lag',
  handler: () => {
    const found = { p99: delays.percentile(99) / NS_PER_MS, max: delays.max / NS_PER_MS };
    delays.reset();
    return found;
  },
});
