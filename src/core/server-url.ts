import { MillraceError } from './errors.ts';

/** What a NATS URL says. */
export interface ServerUrl {
  /** Without user, password and token. */
  address: string;
  /** A user has a password; who has neither may have a token. */
  user?: string;
  password?: string;
  token?: string;
}

const PROTOCOLS = ['nats:', 'tls:'];
const SCHEME = /^[a-z][a-z0-9+.-]*:\/\//i;
const HOST = /^(\[[0-9a-f:.]+\]|[\p{L}\p{N}._%-]+)$/iu;

/** `HOST`, `HOST:PORT` or `nats://USER:PASSWORD@HOST:PORT`. Throws USAGE, without the password in the message. */
export function parseServerUrl(text: string): ServerUrl {
  const wrong = (why: string): MillraceError =>
    new MillraceError('USAGE', `The server ${withoutPassword(text)} is no NATS URL: ${why}.`);
  const trimmed = text.trim();
  const whole = SCHEME.test(trimmed) ? trimmed : `nats://${trimmed}`;
  if (!URL.canParse(whole)) {
    throw wrong('give it as nats://HOST:PORT, special characters of a password as %XX');
  }
  const { protocol, username, password, hostname, host, pathname, search, hash } = new URL(whole);
  if (!PROTOCOLS.includes(protocol)) throw wrong('it must begin with nats:// or tls://');
  if (!HOST.test(hostname)) throw wrong('its host is missing or not legal');
  if (!['', '/'].includes(pathname) || search !== '' || hash !== '') {
    throw wrong('nothing may follow host and port');
  }
  const address = `${protocol}//${host}`;
  const credentials = /^[^/]*\/\/(.*)@/.exec(whole)?.[1];
  if (credentials === undefined) return { address };
  if (username === '') throw wrong('its user is missing');
  let user: string;
  let secret: string;
  try {
    user = decodeURIComponent(username);
    secret = decodeURIComponent(password);
  } catch {
    throw wrong('its user or password has a % that is not followed by two hexadecimal digits');
  }
  if (!credentials.includes(':')) return { address, token: user };
  if (secret === '') throw wrong('its password is missing');
  return { address, user, password: secret };
}

/** To be shown: `***` for a password or a token; of any text, legal or not. */
export function withoutPassword(server: string): string {
  return server
    .split(',')
    .map((one) =>
      one.replace(
        /^(\s*(?:[a-z][a-z0-9+.-]*:\/\/)?)(?:([^:@]*)(:))?.*@/is,
        (_, scheme: string, user = '', colon = '') => `${scheme}${user}${colon}***@`,
      ),
    )
    .join(',');
}
