/**
 * Looks whether a server, or a cluster, is fit for millrace. It makes nothing and changes nothing. What cannot be learnt over
 * NATS, such as whether writes are synced, is said to be unknown, never taken for granted.
 */
import { z } from 'zod';
import { apiSchema, JetStreamApi } from '../bus/jetstream-api.ts';
import type { Bus } from '../bus/connection.ts';
import { messageOf, type MillraceError } from '../core/errors.ts';
import type { Settings } from '../core/settings.ts';
import { assertFits } from '../state/fits.ts';
import { bytesText, fail, ok, unknown, warn, type Check } from './checks.ts';
import { examineMonitor, spaceCheck, versionCheck } from './monitor.ts';
import { examinePermissions } from './permissions.ts';
import { examineStreams, type ExaminedStreams } from './streams.ts';

/** Events that come later, rates and kept answers go by clocks. */
const CLOCK_WARN_MS = 500;
const CLOCK_FAIL_MS = 5_000;
/** Beside the payload: headers of an event. */
const HEADER_ROOM_BYTES = 16 * 1024;

const accountSchema = apiSchema.extend({
  storage: z.number().optional(),
  streams: z.number().optional(),
  limits: z
    .object({ max_storage: z.number().optional(), max_streams: z.number().optional() })
    .optional(),
});

/** `monitors`: URLs of monitoring ports. Does not throw: what fails is a finding. */
export async function examine(
  bus: Bus,
  settings: Settings,
  monitors: readonly string[],
): Promise<Check[]> {
  const { version, name, cluster } = bus.server;
  const checks: Check[] = [
    ok('server', cluster === undefined ? name : `${name}, in the cluster ${cluster}`),
    versionCheck('version', version, settings.replicas),
    payloadCheck(bus.maxMessageBytes, settings),
    await jetStreamCheck(bus, settings),
  ];
  if (checks.at(-1)?.result !== 'fail') {
    try {
      const { checks: streams, clock } = await examineStreams(bus, settings);
      checks.push(await examinePermissions(bus, settings), clockCheck(clock), ...streams);
    } catch (error) {
      checks.push(fail('streams', messageOf(error), 'See that a majority of the servers run.'));
    }
  }
  for (const url of monitors) checks.push(...(await examineMonitor(url, settings.replicas)));
  if (monitors.length === 0) {
    checks.push(
      unknown(
        'sync',
        'a server does not tell its clients whether it writes to the disk before it acknowledges',
        'Add --monitor http://HOST:8222, with commas for several servers; sync_interval should be always.',
      ),
    );
  }
  return checks;
}

async function jetStreamCheck(bus: Bus, { replicas }: Settings): Promise<Check> {
  const name = 'jetstream';
  try {
    const {
      storage = 0,
      limits,
      error,
    } = await new JetStreamApi(bus).ask('INFO', {}, accountSchema);
    if (error !== undefined) {
      const why = error.description ?? `error ${error.err_code}`;
      return fail(
        name,
        why,
        'Enable JetStream for the account, and see that a majority of the servers run.',
      );
    }
    if (replicas === 1 && bus.server.cluster !== undefined) {
      return warn(
        name,
        'a cluster, and replicas is 1: what is made is on one of its servers',
        'Set replicas to 3 (--replicas 3, MILLRACE_REPLICAS, or in --config), the same for all processes.',
      );
    }
    if (replicas > 1 && bus.server.cluster === undefined) {
      return fail(
        name,
        `one server, too few for ${replicas} replicas`,
        'Start a cluster (config/cluster), or set replicas to 1.',
      );
    }
    return spaceCheck(name, storage, limits?.max_storage ?? -1);
  } catch (error) {
    const remedy = bus.jetStreamHere
      ? 'See that a majority of the servers run, and that $JS.API.> is allowed.'
      : 'Add a block jetstream to the configuration of nats-server.';
    return fail(name, messageOf(error), remedy);
  }
}

function payloadCheck(maxBytes: number, settings: Settings): Check {
  const name = 'max_payload';
  try {
    assertFits(maxBytes, settings);
  } catch (error) {
    return fail(
      name,
      (error as MillraceError).message,
      'Set max_payload: 8MB, as config/nats-server.conf has it.',
    );
  }
  if (maxBytes < settings.maxPayloadBytes + HEADER_ROOM_BYTES) {
    return warn(
      name,
      `${bytesText(maxBytes)}: payloads must be smaller than maxPayloadBytes says`,
      'Set max_payload: 8MB, as config/nats-server.conf has it.',
    );
  }
  return ok(name, bytesText(maxBytes));
}

function clockCheck(clock: ExaminedStreams['clock']): Check {
  const name = 'clock';
  if (clock === undefined) return unknown(name, 'there is no stream whose server could be asked');
  const apartMs = Math.abs(clock.serverMs - clock.hereMs) - clock.withinMs;
  const finding = `${Math.max(0, Math.round(apartMs))} ms apart from the server's`;
  const remedy = 'Have the clocks of all machines set by NTP.';
  if (apartMs >= CLOCK_FAIL_MS) return fail(name, finding, remedy);
  return apartMs >= CLOCK_WARN_MS ? warn(name, finding, remedy) : ok(name, finding);
}
