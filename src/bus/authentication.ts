/** How a connection proves who it is, and that the server is the one that is meant: files, read once at the start. */
import { readFile } from 'node:fs/promises';
import {
  credsAuthenticator,
  nkeyAuthenticator,
  type ConnectionOptions,
  type TlsOptions,
} from 'nats';
import { messageOf, MillraceError } from '../core/errors.ts';
import type { ServerUrl } from '../core/server-url.ts';

/** Paths of PEM files; a certificate has its key. */
export interface TlsFiles {
  /** Certificates that may have signed the server's; default: those that Node knows. */
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
}

/** Paths. */
export interface CredentialFiles {
  /** A NATS credentials file. */
  credentials?: string | undefined;
  /** A file with an nkey's seed. */
  nkey?: string | undefined;
}

/** Of a file; else those of the first URL that has any. */
export async function credentialsFrom(
  urls: readonly ServerUrl[],
  { credentials, nkey }: CredentialFiles,
): Promise<ConnectionOptions> {
  if (credentials !== undefined && nkey !== undefined) {
    throw new MillraceError('USAGE', 'Give credentials or an nkey, not both.');
  }
  if (credentials !== undefined) {
    return { authenticator: credsAuthenticator(await readable(credentials, 'credentials')) };
  }
  if (nkey !== undefined) {
    const seed = new TextDecoder().decode(await readable(nkey, 'nkey')).trim();
    if (!/^SU[A-Z2-7]{56}$/.test(seed)) {
      const message = `The nkey file ${nkey} has no seed of a user, which begins with SU.`;
      throw new MillraceError('USAGE', message);
    }
    return { authenticator: nkeyAuthenticator(Buffer.from(seed)) };
  }
  const { user, password = '', token } = urls.find((url) => url.user ?? url.token) ?? {};
  if (token !== undefined) return { token };
  return user === undefined ? {} : { user, pass: password };
}

/** `tls://` insists on TLS; the files are read here, so that one that is missing is named. */
export async function tlsFrom(
  urls: readonly ServerUrl[],
  files: TlsFiles | undefined,
): Promise<ConnectionOptions> {
  const given = Object.values(files ?? {}).some((file) => file !== undefined);
  if (!given && !urls.some(({ address }) => address.startsWith('tls:'))) return {};
  const { ca, cert, key } = files ?? {};
  if ((cert === undefined) !== (key === undefined)) {
    throw new MillraceError('USAGE', 'A TLS certificate needs its key, and a key its certificate.');
  }
  const tls: TlsOptions = {};
  const text = async (file: string, what: string): Promise<string> =>
    new TextDecoder().decode(await readable(file, what));
  if (ca !== undefined) tls.ca = await text(ca, 'TLS CA');
  if (cert !== undefined) tls.cert = await text(cert, 'TLS certificate');
  if (key !== undefined) tls.key = await text(key, 'TLS key');
  return { tls };
}

/** Throws USAGE. */
async function readable(file: string, what: string): Promise<Uint8Array> {
  return readFile(file).catch((cause: unknown) => {
    const message = `The ${what} file ${file} cannot be read: ${messageOf(cause)}.`;
    throw new MillraceError('USAGE', message, { cause });
  });
}

/** OpenSSL's codes, in words; each is one that trying again does not mend. */
const UNTRUSTED: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: "nobody that is trusted has signed the server's certificate",
  DEPTH_ZERO_SELF_SIGNED_CERT: "nobody that is trusted has signed the server's certificate",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "nobody that is trusted has signed the server's certificate",
  UNABLE_TO_GET_ISSUER_CERT: "nobody that is trusted has signed the server's certificate",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "nobody that is trusted has signed the server's certificate",
  CERT_HAS_EXPIRED: "the server's certificate has expired",
  CERT_NOT_YET_VALID: "the server's certificate is not valid yet",
  ERR_TLS_CERT_ALTNAME_INVALID: "the server's certificate is for another host",
};

/** Why TLS did not come about, where it is TLS; undefined for any other failure. */
export function whyUntrusted(thrown: unknown): string | undefined {
  for (let error = thrown; error instanceof Error; error = chained(error)) {
    const { code = '' } = error as { code?: string };
    const known = UNTRUSTED[code];
    if (known !== undefined) return `${known} (${code})`;
    if (/^ERR_(SSL|TLS|OSSL)|^ERR_CRYPTO|tls|ssl|certificate/i.test(`${code} ${error.message}`)) {
      return messageOf(error).trim().replace(/\.$/, '');
    }
  }
  return undefined;
}

/** The client keeps what it was told under a name of its own. */
function chained(error: Error): unknown {
  return (error as { chainedError?: unknown }).chainedError ?? error.cause;
}
