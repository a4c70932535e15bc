/** What is stored of deployed functions, in the KV bucket `<namespace>-deployments`: JSON, one schema each. */
import { z } from 'zod';
import { functionNameReason } from '../core/names.ts';

/** Versions of a function that are remembered, and can be gone back to. */
export const MAX_VERSIONS = 20;
/** The manifest is one message: it has about 200 bytes for each. */
export const MAX_DEPLOYED_FUNCTIONS = 1_000;
export const MAX_MESSAGE_CHARACTERS = 500;
export const MAX_AUTHOR_CHARACTERS = 200;

export const FORMAT = 1;

const functionName = z.string().refine((name) => functionNameReason(name) === undefined);
const version = z.string().regex(/^[0-9a-f]{12}$/);
/** ISO 8601, UTC. */
const time = z.string().max(40);
const author = z.string().max(MAX_AUTHOR_CHARACTERS);
const fileName = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.js$/);

const fileSchema = z.object({
  /** Flat: below the folder of deployed files there are no others. */
  path: fileName,
  /** SHA-256 of the packed file, hexadecimal: its name in the object store. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** Packed, before it is compressed. */
  bytes: z.number().int().nonnegative(),
});
export type FileRecord = z.infer<typeof fileSchema>;

const versionSchema = z.object({
  version,
  /** The file whose default export is the function. */
  entry: fileName,
  files: z.array(fileSchema).min(1),
  /** As people know it: functions/sum.ts. */
  source: z.string().max(1_000),
  /** delivery/identity.ts, and how its events reach it: two versions with the same one can run side by side. */
  identity: z.string().max(100),
  at: time,
  by: author,
  message: z.string().max(MAX_MESSAGE_CHARACTERS).optional(),
  /** Who vouches for it: signature.ts. */
  signed: z.object({ key: z.string().max(100), signature: z.string().max(200) }).optional(),
});
export type VersionRecord = z.infer<typeof versionSchema>;

/** The oldest first. */
export const versionsSchema = z.object({
  format: z.literal(FORMAT),
  versions: z.array(versionSchema),
});

const deployedSchema = z.object({
  version,
  /** What it ran before: where a rollback goes. */
  previous: version.optional(),
  at: time,
  by: author,
  canary: z.object({ version, share: z.number().gt(0).lt(1), at: time, by: author }).optional(),
  /** The last canary that was taken back because it failed more often. */
  takenBack: z.object({ version, at: time, why: z.string().max(500) }).optional(),
});
export type Deployed = z.infer<typeof deployedSchema>;

export const manifestSchema = z.object({
  format: z.literal(FORMAT),
  /** Counts the changes. */
  generation: z.number().int().nonnegative(),
  at: time,
  by: author,
  /** Pairs: a function may be called as no key of an object from outside may be. */
  functions: z.array(z.tuple([functionName, deployedSchema])).max(MAX_DEPLOYED_FUNCTIONS),
});

/** Which version of which function runs. */
export interface Manifest {
  generation: number;
  at: string;
  by: string;
  functions: ReadonlyMap<string, Deployed>;
}

export const NOTHING_DEPLOYED: Manifest = { generation: 0, at: '', by: '', functions: new Map() };

export function toStored(manifest: Manifest): z.infer<typeof manifestSchema> {
  return { format: FORMAT, ...manifest, functions: [...manifest.functions] };
}

export function toStoredVersions(versions: VersionRecord[]): z.infer<typeof versionsSchema> {
  return { format: FORMAT, versions };
}
