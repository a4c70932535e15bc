/**
 * Signatures of deployed versions, by nkeys (Ed25519). What is signed is all that decides what runs: namespace, name, version,
 * and each file by the hash of its content; so a signature holds for nothing else.
 */
import { nkeys } from 'nats';
import { MillraceError } from '../core/errors.ts';
import type { VersionRecord } from './records.ts';

export interface Signature {
  /** The public key: begins with U. */
  key: string;
  /** Base64. */
  signature: string;
}

export type Signed = Pick<VersionRecord, 'version' | 'entry' | 'files' | 'identity'> & {
  name: string;
};

const PURPOSE = 'millrace deploy 1';

export class Signer {
  readonly #pair: ReturnType<typeof nkeys.fromSeed>;
  /** The public key. */
  readonly key: string;

  /** Throws USAGE for what is no seed of a user's key; the seed is in no message. */
  constructor(seed: string) {
    try {
      if (!seed.startsWith('SU')) throw new Error('it is another kind of key');
      this.#pair = nkeys.fromSeed(new TextEncoder().encode(seed));
      this.key = this.#pair.getPublicKey();
    } catch {
      throw new MillraceError(
        'USAGE',
        'What is to sign is no seed of a deploy key, which begins with SU: make one with "millrace deploy-key".',
      );
    }
  }

  sign(namespace: string, signed: Signed): Signature {
    const signature = this.#pair.sign(bytesOf(namespace, signed));
    return { key: this.key, signature: Buffer.from(signature).toString('base64') };
  }
}

/** Secret and public key. */
export function makeDeployKey(): { seed: string; key: string } {
  const pair = nkeys.createUser();
  return { seed: new TextDecoder().decode(pair.getSeed()), key: pair.getPublicKey() };
}

/** Is it a public key of those that sign? */
export function isDeployKey(text: string): boolean {
  try {
    return text.startsWith('U') && nkeys.fromPublic(text).getPublicKey() === text;
  } catch {
    return false;
  }
}

/** Throws FUNCTION_LOAD_FAILED where nobody who is trusted has signed the version as it is. */
export function assertSigned(
  namespace: string,
  name: string,
  record: VersionRecord,
  trusted: readonly string[],
): void {
  const { version, signed } = record;
  if (signed === undefined) throw untrusted(name, version, 'it is not signed');
  if (!trusted.includes(signed.key)) {
    throw untrusted(name, version, `its signer ${signed.key} is not one of --trust`);
  }
  if (!holds(signed, bytesOf(namespace, { ...record, name }))) {
    throw untrusted(name, version, 'its signature does not hold for what is stored');
  }
}

function holds({ key, signature }: Signature, bytes: Uint8Array): boolean {
  try {
    return nkeys.fromPublic(key).verify(bytes, Buffer.from(signature, 'base64'));
  } catch {
    return false;
  }
}

function bytesOf(namespace: string, { name, version, entry, files, identity }: Signed): Uint8Array {
  const hashes = files.map(({ path, hash }) => [path, hash]);
  const all = [PURPOSE, namespace, name, version, entry, identity, hashes];
  return new TextEncoder().encode(JSON.stringify(all));
}

function untrusted(name: string, version: string, why: string): MillraceError {
  return new MillraceError(
    'FUNCTION_LOAD_FAILED',
    `the version ${version} of ${name} is not trusted: ${why}`,
  );
}
