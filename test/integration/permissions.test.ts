/** What each role may do, and nothing else: probes of every subject, with users made from what `millrace permissions` prints. */
import type { NatsConnection } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NO_GRANTS, ROLES, type Role } from '../../src/core/permissions.ts';
import { subjectsOf, type Subjects } from '../../src/core/subjects.ts';
import { refusedOf, startSecured, type SecuredBroker } from '../support/secured.ts';

const GRANTS = {
  ...NO_GRANTS,
  publish: ['orders.>'],
  subscribe: ['orders.>'],
  streams: ['ORDERS'],
};
const EVERYBODY = ROLES;
const CLIENTS: readonly Role[] = ['publisher', 'invoker', 'inspector', 'gateway', 'deployer'];
const CALLERS: readonly Role[] = ['worker', 'invoker', 'gateway'];
const INSPECTORS: readonly Role[] = ['worker', 'inspector', 'gateway'];
const WORKER: readonly Role[] = ['worker'];

type Names = Exclude<keyof Subjects, 'unknownGroup' | 'queueGroup'>;

/** Who may publish; said here a second time, by hand, for every subject that there is. */
const MAY_PUBLISH: Record<Names, readonly Role[]> = {
  fn: CALLERS,
  workerCall: WORKER,
  workerAsk: CALLERS,
  workerStream: CALLERS,
  workerPing: ['worker', ...CLIENTS],
  workerReport: WORKER,
  workerCatalog: WORKER,
  hello: EVERYBODY,
  announce: WORKER,
  beat: WORKER,
  leave: WORKER,
  membership: WORKER,
  log: WORKER,
  snapshot: WORKER,
  cache: WORKER,
  stateBeat: WORKER,
  stateLeave: WORKER,
  stateAssignment: WORKER,
  statePartitions: WORKER,
  stateRelease: WORKER,
  stateRetain: ['worker', 'backup'],
  stateJoin: WORKER,
  stateAsk: WORKER,
  stateReport: WORKER,
  tx: WORKER,
  dead: WORKER,
  replay: WORKER,
  cron: WORKER,
  later: WORKER,
  due: WORKER,
  deployPrepare: ['worker', 'deployer'],
  deploySwitch: ['worker', 'deployer'],
  inspect: INSPECTORS,
  logLines: WORKER,
  logAsk: ['worker', 'inspector'],
  inspecting: WORKER,
  runs: WORKER,
  runsAsk: INSPECTORS,
};
/** Who may listen, where that is more than workers. */
const MAY_SUBSCRIBE: Partial<Record<Names, readonly Role[]>> = {
  announce: ['worker', ...CLIENTS],
  beat: ['worker', ...CLIENTS],
  leave: ['worker', ...CLIENTS],
  membership: ['worker', ...CLIENTS],
  stateBeat: ['worker', ...CLIENTS],
  cache: ['worker', ...CLIENTS],
  logLines: ['worker', 'inspector'],
  runs: INSPECTORS,
};

const NAMES = Object.keys(MAY_PUBLISH) as Names[];
function sample(name: Names, namespace: string): string {
  const subject: string | ((...names: [string, string]) => string) = subjectsOf(namespace)[name];
  return typeof subject === 'string' ? subject : subject('some', 'name');
}

const READ = [
  'STREAM.INFO.*',
  'STREAM.MSG.GET.*',
  'DIRECT.GET.*',
  'DIRECT.GET.*.any.subject',
  'CONSUMER.CREATE.*',
  'CONSUMER.CREATE.*.name',
  'CONSUMER.CREATE.*.name.any.subject',
  'CONSUMER.MSG.NEXT.*.name',
  'CONSUMER.DELETE.*.name',
];
const NEVER = [
  'STREAM.DELETE.*',
  'STREAM.RESTORE.*',
  'STREAM.LEADER.STEPDOWN.*',
  'STREAM.PEER.REMOVE.*',
  'CONSUMER.DURABLE.CREATE.*.name',
  'CONSUMER.LIST.*',
  'CONSUMER.NAMES.*',
  'CONSUMER.INFO.*.name',
  'CONSUMER.LEADER.STEPDOWN.*.name',
];
const WRITE = [
  'STREAM.CREATE.*',
  'STREAM.UPDATE.*',
  'STREAM.PURGE.*',
  'STREAM.MSG.DELETE.*',
  'STREAM.SNAPSHOT.*',
];
const STREAMS = ['log', 'snapshots', 'events', 'dead', 'later'].map((name) => `-${name}`);
const STORES = ['assignment', 'events-wanted', 'deliveries', 'deployments'];

/** Who may ask JetStream this of a stream of the platform's, said by hand. */
function mayAsk(role: Role, verb: string, stream: string): boolean {
  const own = STREAMS.some((suffix) => stream.endsWith(suffix) && !/^(KV|OBJ)_/.test(stream));
  const name = stream.replace(/^(KV_|OBJ_)?a/, '$1');
  const deployed = name === 'KV_-deployments' || name === 'OBJ_-deploys';
  if (NEVER.includes(verb)) return false;
  if (READ.includes(verb)) {
    if (role === 'worker' || role === 'backup') return true;
    if (role === 'deployer' && deployed) return true;
    if (role === 'publisher') return verb === 'STREAM.INFO.*' && name === '-events';
    if (role !== 'gateway' && role !== 'inspector') return false;
    if (verb === 'STREAM.INFO.*' && name === '-events') return role === 'gateway';
    if (verb === 'STREAM.MSG.GET.*' && name === '-dead') return true;
    const looks = ['STREAM.INFO.*', 'STREAM.MSG.GET.*', 'DIRECT.GET.*.any.subject'];
    return name === 'KV_-deployments' && looks.includes(verb);
  }
  const of: Record<string, boolean> = {
    'STREAM.CREATE.*': role === 'worker' || (role === 'deployer' && deployed),
    'STREAM.UPDATE.*': role === 'worker' && name === '-events',
    'STREAM.PURGE.*':
      (role === 'worker' && (own || name === 'OBJ_-deploys')) ||
      (role === 'deployer' && name === 'OBJ_-deploys'),
    'STREAM.MSG.DELETE.*': role === 'worker' && (name === '-dead' || name === '-later'),
    'STREAM.SNAPSHOT.*': role === 'backup' && ['-events', '-dead', '-later'].includes(name),
  };
  return of[verb] === true;
}

const ACCOUNT: [string, readonly Role[]][] = [
  ['$JS.API.INFO', ['worker', 'inspector', 'gateway', 'deployer', 'backup']],
  ['$JS.API.STREAM.NAMES', ['worker', 'publisher', 'gateway', 'deployer', 'backup']],
  ['$JS.API.STREAM.LIST', []],
  ['$JS.API.ACCOUNT.PURGE.any', []],
  ['$JS.API.META.LEADER.STEPDOWN', []],
  ['$SYS.REQ.SERVER.PING', []],
  ['$SYS.REQ.ACCOUNT.X.CONNZ', []],
  ['$SYS.REQ.USER.INFO', []],
  ['$SRV.PING', ['inspector']],
  ['$SRV.STATS.a', ['inspector']],
  ['orders.new', ['worker', 'publisher', 'gateway']],
  ['other.new', []],
  ['$KV.a-assignment.assignment', WORKER],
  ['$KV.a-deliveries.any', WORKER],
  ['$KV.a-deployments.manifest', ['worker', 'deployer']],
  ['$O.a-deploys.C.any', ['worker', 'deployer']],
  ['a.log.mark', ['worker', 'backup']],
  ['$JS.API.STREAM.INFO.ORDERS', ['worker', 'publisher', 'gateway', 'backup']],
  ['$JS.API.STREAM.MSG.GET.ORDERS', ['worker', 'backup']],
  ['$JS.API.STREAM.PURGE.ORDERS', []],
  ['$JS.API.STREAM.DELETE.ORDERS', []],
  ['$JS.ACK.ORDERS.any.1.1.1.1.1', []],
  ['_INBOX.publisher.any', WORKER],
  ['_INBOX.any', WORKER],
];

let broker: SecuredBroker;
let asRole: Map<Role, NatsConnection>;

beforeAll(async () => {
  broker = await startSecured(GRANTS, ['a', 'b']);
  const opened = ROLES.map(async (role): Promise<[Role, NatsConnection]> => [
    role,
    await broker.raw(role, 'a'),
  ]);
  asRole = new Map(await Promise.all(opened));
});

afterAll(async () => {
  for (const connection of asRole.values()) await connection.close();
  await broker.stop();
});

const notGroups = (name: string): boolean => name !== 'unknownGroup' && name !== 'queueGroup';
const publishable = NAMES.filter((name) => name !== 'membership');

describe.each(ROLES)('a %s', (role) => {
  /** Subjects that are not as declared, and what was declared. */
  const wrongOf = async (
    operation: 'publish' | 'subscription',
    declared: ReadonlyMap<string, boolean>,
  ): Promise<[string, boolean][]> => {
    const connection = asRole.get(role) as NatsConnection;
    const refused = await refusedOf(connection, operation, [...declared.keys()]);
    expect(declared.size).toBeGreaterThan(5);
    return [...declared].filter(([subject, may]) => refused.has(subject) === may);
  };

  it('publishes on the subjects that are declared for it, and on no other of the platform', async () => {
    const own = publishable.map((name): [string, boolean] => [
      sample(name, 'a'),
      MAY_PUBLISH[name].includes(role),
    ]);
    expect(await wrongOf('publish', new Map(own))).toEqual([]);
  });

  it('listens where it is declared', async () => {
    const own = NAMES.map((name): [string, boolean] => [
      sample(name, 'a'),
      (MAY_SUBSCRIBE[name] ?? WORKER).includes(role),
    ]);
    const inboxes = ROLES.map((other): [string, boolean] => [
      `_INBOX.${other}.any`,
      other === role,
    ]);
    const wide = ['>', '_INBOX.>', '_INBOX.*', 'a.>', '$JS.>', '$SYS.>', '$KV.>', '*.>'];
    const wider = wide.map((subject): [string, boolean] => [
      subject,
      subject === 'a.>' && role === 'worker',
    ]);
    const events: [string, boolean] = ['orders.new', role === 'worker' || role === 'gateway'];
    expect(await wrongOf('subscription', new Map([...own, ...inboxes, ...wider, events]))).toEqual(
      [],
    );
  });

  it('asks of the platform’s streams what is declared', async () => {
    const streams = [
      ...STREAMS.map((suffix) => `a${suffix}`),
      ...STORES.map((name) => `KV_a-${name}`),
      'OBJ_a-deploys',
    ];
    const all = streams.flatMap((stream) =>
      [...READ, ...NEVER, ...WRITE].map((verb): [string, boolean] => [
        `$JS.API.${verb.replace('*', stream)}`,
        mayAsk(role, verb, stream),
      ]),
    );
    expect(await wrongOf('publish', new Map(all))).toEqual([]);
  });

  it('asks of the account, and of the system, what is declared', async () => {
    const all = ACCOUNT.map(([subject, who]): [string, boolean] => [subject, who.includes(role)]);
    expect(await wrongOf('publish', new Map(all))).toEqual([]);
  });

  it('reaches nothing of another namespace', async () => {
    const own = publishable.map((name) => sample(name, 'b'));
    const streams = STREAMS.flatMap((suffix) =>
      [...READ, ...NEVER, ...WRITE].map((verb) => `$JS.API.${verb.replace('*', `b${suffix}`)}`),
    );
    const stores = STORES.flatMap((name) => [
      `$KV.b-${name}.any`,
      `$JS.API.STREAM.MSG.GET.KV_b-${name}`,
    ]);
    const all = [...own, ...streams, ...stores, '$O.b-deploys.C.any'];
    expect(await wrongOf('publish', new Map(all.map((subject) => [subject, false])))).toEqual([]);
    const heard = NAMES.map((name): [string, boolean] => [sample(name, 'b'), false]);
    expect(await wrongOf('subscription', new Map(heard))).toEqual([]);
  });
});

it('every subject of the platform is declared', () => {
  expect(Object.keys(subjectsOf('a')).filter(notGroups).sort()).toEqual([...NAMES].sort());
});
