import { describe, expect, it } from 'vitest';
import { parseSettings } from '../../src/core/settings.ts';
import { askWorkers } from '../../src/deploy/ask-workers.ts';
import { FakeBus } from '../support/fake-bus.ts';

describe('workers that are asked', () => {
  it('are not taken for silent ones when the connection has broken meanwhile: the question fails', async () => {
    const bus = new FakeBus();
    const asked = askWorkers(bus.asBus(), parseSettings({}), 'ask', new Uint8Array(), ['w1']);
    expect(bus.published).toHaveLength(1);
    // Away and back, faster than anybody looks.
    bus.epoch += 1;
    await expect(asked).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(bus.subscriptions).toBe(0);
  });

  it('count when they have answered', async () => {
    const bus = new FakeBus();
    const asked = askWorkers(bus.asBus(), parseSettings({}), 'ask', new Uint8Array(), ['w1']);
    const reply = bus.published[0]?.reply ?? '';
    bus.deliver(reply, Buffer.from(JSON.stringify({ worker: 'w1', state: 'ready' })));
    expect((await asked).ready).toMatchObject([{ worker: 'w1' }]);
  });
});
