import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { connect } from 'millrace';
import { Bus } from '../../src/bus/connection.ts';
import { DEFAULT_SERVER } from '../../src/client/client.ts';

let server: Server | undefined;
afterEach(() => {
  server?.close();
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** Says that it is a NATS server of some version, and no more than a client needs to connect. */
async function serverOfVersion(version: string): Promise<string> {
  const info = { server_id: 'x', version, max_payload: 1_048_576, headers: true, proto: 1 };
  server = createServer((socket) => {
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
    socket.on('data', (data) => {
      if (data.toString().includes('PING')) socket.write('PONG\r\n');
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return `nats://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('connecting', () => {
  it('to a server that is too old is refused, with the reason', async () => {
    const servers = await serverOfVersion('2.9.10');
    await expect(connect({ servers })).rejects.toMatchObject({
      code: 'BROKER_TOO_OLD',
      message: expect.stringMatching(/is 2\.9\.10; millrace needs 2\.14\.0 or newer/) as string,
    });
  });

  it('where nothing listens is CONNECTION_FAILED, without the password in the message', async () => {
    const error = await connect({ servers: 'nats://user:secret@127.0.0.1:1' }).then(
      () => new Error('connected'),
      (thrown: Error) => thrown,
    );
    expect(error).toMatchObject({ code: 'CONNECTION_FAILED', retryable: true });
    expect(error.message).toContain('127.0.0.1:1');
    expect(error.message).not.toContain('secret');
  });

  it.each([
    { servers: 'nats://:secret@127.0.0.1:1' },
    { servers: ['nats://127.0.0.1:1', 'nats://alice:secret@127.0.0.1:99999'] },
    { servers: 'nats://127.0.0.1:1', credentials: 'nowhere.creds' },
  ])('with %j is USAGE, before anything is connected', async (options) => {
    await expect(connect(options)).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.not.stringContaining('secret') as string,
    });
  });

  it.each([[''], [' '], [[]], [['', '']]])(
    'to %j is as if no server were given',
    async (servers) => {
      vi.stubEnv('NATS_URL', 'nats://127.0.0.1:1');
      await expect(connect({ servers })).rejects.toMatchObject({
        code: 'CONNECTION_FAILED',
        message: expect.stringContaining('nats://127.0.0.1:1:') as string,
      });
    },
  );

  it('with empty variables is as if they were not set', async () => {
    vi.stubEnv('NATS_URL', '');
    vi.stubEnv('NATS_CREDS', '');
    const opened = vi.spyOn(Bus, 'open').mockRejectedValue(new Error('seen'));
    await expect(connect()).rejects.toThrow('seen');
    expect(opened.mock.calls[0]?.[0]).toMatchObject({
      servers: [DEFAULT_SERVER],
      credentials: undefined,
    });
  });

  it('leaves out the empty ones among several servers', async () => {
    const opened = vi.spyOn(Bus, 'open').mockRejectedValue(new Error('seen'));
    await expect(connect({ servers: ['', 'nats://a', ' '] })).rejects.toThrow('seen');
    expect(opened.mock.calls[0]?.[0]).toMatchObject({ servers: ['nats://a'] });
  });

  it('with settings that are not legal is USAGE', async () => {
    const servers = 'nats://127.0.0.1:1';
    await expect(connect({ servers, namespace: 'a b' })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(connect({ servers, settings: { concurrency: 0 } })).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('concurrency') as string,
    });
  });
});
