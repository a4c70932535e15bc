/**
 * Which subjects each role needs, and no more: what `millrace permissions` prints. The one place that knows it, beside
 * subjects.ts. SECURITY.md says what each role can do at worst, and what permissions cannot forbid.
 *
 * Answers come to an inbox below the role's own prefix (`inboxOf`), so that nobody hears the answers of others. Only workers
 * may publish to inboxes: nobody else can answer.
 */
import { bucketsOf, objectsOf, streamOfBucket, streamOfObjects, streamsOf } from './stores.ts';
import { subjectsOf, type Subjects } from './subjects.ts';

export const ROLES = [
  'worker',
  'publisher',
  'invoker',
  'inspector',
  'gateway',
  'deployer',
  'backup',
] as const;
export type Role = (typeof ROLES)[number];

/** What is the user's own: names that no role can know by itself. */
export interface Grants {
  /** Subjects of events: published by publishers and gateways, emitted by workers; wildcards allowed. */
  publish: readonly string[];
  /** Subjects that workers' functions listen on, and that gateways may follow. */
  subscribe: readonly string[];
  /** Functions that may be invoked; undefined for all. */
  invoke: readonly string[] | undefined;
  /** Streams of the user's own which hold events of functions. */
  streams: readonly string[];
  /** May events be published for later? Whoever may can have any event published that workers may publish. */
  delayed: boolean;
}

export const NO_GRANTS: Grants = {
  publish: [],
  subscribe: [],
  invoke: undefined,
  streams: [],
  delayed: false,
};

export interface Permissions {
  publish: string[];
  subscribe: string[];
}

/** Where answers to a client of this role come: below `_INBOX`, so that all of the platform knows it for an inbox. */
export function inboxOf(role: string): string {
  return `_INBOX.${role}`;
}

/** What is wrong with a prefix of inboxes, to be put after it; undefined for a legal one. */
export function inboxPrefixReason(prefix: string): string | undefined {
  return /^_INBOX(\.[A-Za-z0-9_-]{1,64}){1,8}$/.test(prefix)
    ? undefined
    : 'must be _INBOX and one or more names behind it, as _INBOX.invoker';
}

const API = '$JS.API';

/** Looking at a stream's messages, by JetStream's own means. `$JS.FC` answers its flow control. */
const read = (stream: string): string[] => [
  `${API}.STREAM.INFO.${stream}`,
  `${API}.STREAM.MSG.GET.${stream}`,
  `${API}.DIRECT.GET.${stream}`,
  `${API}.DIRECT.GET.${stream}.>`,
  `${API}.CONSUMER.CREATE.${stream}`,
  `${API}.CONSUMER.CREATE.${stream}.>`,
  `${API}.CONSUMER.MSG.NEXT.${stream}.*`,
  `${API}.CONSUMER.DELETE.${stream}.*`,
  `$JS.FC.${stream}.>`,
];
const info = (stream: string): string => `${API}.STREAM.INFO.${stream}`;
const create = (stream: string): string => `${API}.STREAM.CREATE.${stream}`;
const purge = (stream: string): string => `${API}.STREAM.PURGE.${stream}`;
/** What the client asks of JetStream before it opens a bucket, and who captures a subject: names of streams are no secret. */
const ACCOUNT = `${API}.INFO`;
const STREAM_NAMES = `${API}.STREAM.NAMES`;

export function permissionsOf(
  role: Role,
  namespace: string,
  grants: Grants = NO_GRANTS,
  inbox = inboxOf(role),
): Permissions {
  const { publish, subscribe = [] } = RULES[role](new Names(namespace), grants);
  const sorted = (subjects: readonly string[]): string[] => [...new Set(subjects)].sort();
  return { publish: sorted(publish), subscribe: sorted([`${inbox}.>`, ...subscribe]) };
}

/** All that rules name. */
class Names {
  readonly subjects: Subjects;
  readonly streams: ReturnType<typeof streamsOf>;
  readonly buckets: ReturnType<typeof bucketsOf>;
  readonly objects: ReturnType<typeof objectsOf>;
  readonly all: string;

  constructor(namespace: string) {
    this.subjects = subjectsOf(namespace);
    this.streams = streamsOf(namespace);
    this.buckets = bucketsOf(namespace);
    this.objects = objectsOf(namespace);
    this.all = `${namespace}.>`;
  }
}

type Rule = (names: Names, grants: Grants) => { publish: string[]; subscribe?: string[] };

const RULES: Record<Role, Rule> = {
  worker: ({ all, streams, buckets, objects }, grants) => {
    const kv = Object.values(buckets);
    const stores = Object.values(objects).map(streamOfObjects);
    const own = [...Object.values(streams), ...kv.map(streamOfBucket), ...stores];
    return {
      publish: [
        all,
        // Answers, to whoever asked.
        '_INBOX.>',
        ...grants.publish,
        ACCOUNT,
        STREAM_NAMES,
        ...own.flatMap((stream) => [...read(stream), create(stream)]),
        `${API}.STREAM.UPDATE.${streams.events}`,
        ...Object.values(streams).map(purge),
        ...[streams.dead, streams.later].map((stream) => `${API}.STREAM.MSG.DELETE.${stream}`),
        ...stores.map(purge),
        ...kv.map((bucket) => `$KV.${bucket}.>`),
        ...Object.values(objects).map((bucket) => `$O.${bucket}.>`),
        ...grants.streams.flatMap(read),
      ],
      subscribe: [all, '$SRV.>', ...grants.subscribe],
    };
  },

  publisher: (names, grants) => ({
    publish: [...knowing(names), ...publishing(names, grants)],
    subscribe: members(names),
  }),

  invoker: (names, grants) => ({
    publish: [...knowing(names), ...invoking(names, grants)],
    subscribe: members(names),
  }),

  inspector: (names) => ({
    publish: [
      ...knowing(names),
      ...inspecting(names),
      names.subjects.logAsk('*'),
      names.subjects.runsAsk,
      '$SRV.PING',
      '$SRV.INFO',
      '$SRV.STATS',
      '$SRV.PING.>',
      '$SRV.INFO.>',
      '$SRV.STATS.>',
    ],
    subscribe: [...members(names), names.subjects.logLines('*', '*'), names.subjects.runs('*')],
  }),

  gateway: (names, grants) => ({
    publish: [
      ...knowing(names),
      ...publishing(names, grants),
      ...invoking(names, grants),
      ...inspecting(names),
      // For the dashboard.
      names.subjects.runsAsk,
    ],
    subscribe: [...members(names), names.subjects.runs('*'), ...grants.subscribe],
  }),

  deployer: (names) => {
    const { subjects, buckets, objects } = names;
    const [kv, store] = [streamOfBucket(buckets.deployments), streamOfObjects(objects.deploys)];
    return {
      publish: [
        ...knowing(names),
        ACCOUNT,
        STREAM_NAMES,
        ...[kv, store].flatMap((stream) => [...read(stream), create(stream)]),
        purge(store),
        `$KV.${buckets.deployments}.>`,
        `$O.${objects.deploys}.>`,
        subjects.deployPrepare,
        subjects.deploySwitch,
        subjects.inspect('workers'),
        subjects.inspect('functions'),
      ],
      subscribe: members(names),
    };
  },

  backup: (names, grants) => {
    const { subjects, streams, buckets, objects } = names;
    const copied = [streams.events, streams.dead, streams.later, ...grants.streams];
    const kept = [streams.log, streams.snapshots, ...Object.values(buckets).map(streamOfBucket)];
    return {
      publish: [
        ACCOUNT,
        STREAM_NAMES,
        ...[...copied, ...kept, ...Object.values(objects).map(streamOfObjects)].flatMap(read),
        ...copied.flatMap((stream) => [
          `${API}.STREAM.SNAPSHOT.${stream}`,
          `$JS.SNAPSHOT.ACK.${stream}.>`,
        ]),
        subjects.hello,
        subjects.stateRetain,
        subjects.log('mark'),
      ],
    };
  },
};

/** Who is there: what every client of the package hears and asks. */
function members({ subjects }: Names): string[] {
  return [subjects.membership, subjects.stateBeat, subjects.cache];
}

function knowing({ subjects }: Names): string[] {
  return [subjects.hello, subjects.workerPing('*')];
}

function publishing({ subjects, streams }: Names, { publish, streams: own, delayed }: Grants) {
  const later = delayed ? [subjects.later('*'), info(streams.later)] : [];
  return [...publish, STREAM_NAMES, info(streams.events), ...own.map(info), ...later];
}

/** By a plain request, by a frame for one function, and taking an answer in parts. */
function invoking({ subjects }: Names, { invoke = ['*'] }: Grants): string[] {
  return [
    ...invoke.flatMap((name) => [subjects.fn(name), subjects.workerAsk('*', name)]),
    subjects.workerStream('*', '>'),
  ];
}

/** Dead letters and what is deployed are read from where they lie, without a worker. */
function inspecting({ subjects, streams, buckets }: Names): string[] {
  const deployments = streamOfBucket(buckets.deployments);
  return [
    subjects.inspect('>'),
    `${API}.STREAM.MSG.GET.${streams.dead}`,
    ACCOUNT,
    info(deployments),
    `${API}.STREAM.MSG.GET.${deployments}`,
    `${API}.DIRECT.GET.${deployments}.>`,
  ];
}
