/**
 * What coordinators and partitions tell each other. Any of these may be lost, late, repeated or reordered: SPEC.md has
 * what follows from that. `tx` is the id of one attempt; no other attempt ever has it.
 */
import type { Age } from './age.ts';

export type LockMode = 'shared' | 'exclusive';

/** A key as the partition has it (`itemKey`) and its new JSON text; null deletes it. */
export type Write = readonly [key: string, value: string | null];

/** C asks for a lock, and with it for the value. `ttlMs`: how long the attempt has left, counted from now. */
export interface LockMessage {
  kind: 'lock';
  tx: string;
  age: Age;
  coordinator: string;
  key: string;
  mode: LockMode;
  ttlMs: number;
}

/** C gives the attempt up; what has prepared already is not concerned. */
export interface ReleaseMessage {
  kind: 'release';
  tx: string;
}

export interface PrepareMessage {
  kind: 'prepare';
  tx: string;
  coordinator: string;
  epoch: number;
  grant: number;
  home: number;
  /** All participants but the home. */
  participants: readonly number[];
  /** Those of them that are written to. */
  writers: readonly number[];
  writes: readonly Write[];
  /** For the home: what is to be published once the transaction has committed. */
  emits: readonly Uint8Array[];
}

/** To the home; repeated until an outcome comes. A no also from C, on behalf of a participant that has lost the session. */
export interface VoteMessage {
  kind: 'vote';
  tx: string;
  from: number;
  yes: boolean;
  refusal?: Refusal;
}

/** The home to its participants. */
export interface CommitMessage {
  kind: 'commit';
  tx: string;
  home: number;
}

export interface AbortMessage {
  kind: 'abort';
  tx: string;
}

/** The home need not remember the outcome for this participant (or, without `from`, for the coordinator) any longer. */
export interface EndedMessage {
  kind: 'ended';
  tx: string;
  from: number | undefined;
}

/** C has heard nothing of the outcome. */
export interface ResolveMessage {
  kind: 'resolve';
  tx: string;
  coordinator: string;
}

/** The target of a move asks its source for the items whose keys come after this one. Of all four `tx` is empty. */
export interface FetchMessage {
  kind: 'fetch';
  tx: '';
  generation: number;
  to: number;
  after: string;
}

/** The source answers. */
export interface ItemsMessage {
  kind: 'items';
  tx: '';
  generation: number;
  from: number;
  after: string;
  /** In the order of their keys, none of them deleted. */
  items: readonly VersionedWrite[];
  /** There are no more. */
  last: boolean;
  /** The highest that the source has given. */
  version: number;
}

/** The source does not serve the keys any more: has the target got them? */
export interface LeftMessage {
  kind: 'left';
  tx: '';
  generation: number;
  from: number;
}

/** The target has them all in its log. */
export interface ArrivedMessage {
  kind: 'arrived';
  tx: '';
  generation: number;
  to: number;
}

export type MoveMessage = FetchMessage | ItemsMessage | LeftMessage | ArrivedMessage;

export type PartitionMessage =
  | MoveMessage
  | LockMessage
  | ReleaseMessage
  | PrepareMessage
  | VoteMessage
  | CommitMessage
  | AbortMessage
  | EndedMessage
  | ResolveMessage;

/** For a refusal that comes from the coordinator itself. */
export const NO_PARTITION = -1;

/** Why a transaction was not committed. */
export interface Refusal {
  /** `conflict` and `lost` may succeed when run again. */
  why: 'conflict' | 'lost' | 'full' | 'overloaded' | 'timeout';
  partition: number;
  key?: string;
  /** The transaction that stood in the way. */
  other?: string;
}

export interface GrantedMessage {
  kind: 'granted';
  tx: string;
  partition: number;
  key: string;
  mode: LockMode;
  /** JSON text; null where there is nothing. */
  value: string | null;
  version: number;
  epoch: number;
  grant: number;
  /** How many wait for the key or have written it without having committed: where to put the home. */
  contention: number;
}

export interface QueuedMessage {
  kind: 'queued';
  tx: string;
  partition: number;
  key: string;
  /** Who holds the key, or waits before. */
  behind: string;
}

/** An older transaction waits for this one. */
export interface WoundMessage {
  kind: 'wound';
  tx: string;
  partition: number;
  key: string;
  by: string;
}

/** The session is gone, or none was opened (grant 0). Of another owner's session it says nothing. */
export interface LostMessage {
  kind: 'lost';
  tx: string;
  epoch: number;
  grant: number;
  refusal: Refusal;
}

export interface OutcomeMessage {
  kind: 'outcome';
  tx: string;
  /** Absent: committed. */
  refusal?: Refusal;
}

/** The partition does not have the key, and knows who may. */
export interface ElsewhereMessage {
  kind: 'elsewhere';
  tx: string;
  partition: number;
  key: string;
  to: number;
  generation: number;
}

export type CoordinatorMessage =
  GrantedMessage | QueuedMessage | WoundMessage | LostMessage | ElsewhereMessage | OutcomeMessage;

/** What goes into a partition's log; replaying them in order builds the partition. */
export type LogRecord =
  | {
      kind: 'prepare';
      tx: string;
      home: number;
      coordinator: string;
      /** Transactions without an outcome whose tentative values it read or overwrote here. */
      dependsOn: readonly string[];
      writes: readonly VersionedWrite[];
    }
  | {
      kind: 'decide';
      tx: string;
      coordinator: string;
      writers: readonly number[];
      writes: readonly VersionedWrite[];
      emits: readonly Uint8Array[];
    }
  | { kind: 'commit'; tx: string }
  | { kind: 'abort'; tx: string }
  | { kind: 'end'; tx: string }
  /** All that it has emitted is stored; its end has to wait for others. */
  | { kind: 'published'; tx: string }
  /** Items whose time is over: removed unless they have been written again since. */
  | { kind: 'expire'; tx: ''; items: readonly (readonly [key: string, version: number])[] }
  /** The number of partitions changes (SPEC.md). In a snapshot with what has been done of that: targets, targets, sources. */
  | {
      kind: 'layout';
      tx: '';
      generation: number;
      from: number;
      to: number;
      left: readonly number[];
      moved: readonly number[];
      arrived: readonly number[];
    }
  | { kind: 'leaving'; tx: ''; to: number }
  | { kind: 'moved'; tx: ''; to: number }
  | {
      kind: 'arriving';
      tx: '';
      from: number;
      items: readonly VersionedWrite[];
      last: boolean;
      version: number;
    };

export type VersionedWrite = readonly [key: string, value: string | null, version: number];
