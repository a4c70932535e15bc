import { findBroker } from '../../src/broker/index.ts';

/** Fetches nats-server once, before tests that run side by side would all want to. */
export default async function setup(): Promise<void> {
  const { path } = await findBroker({ onProgress: (line) => process.stderr.write(`${line}\n`) });
  process.env['NATS_SERVER_BIN'] = path;
}
