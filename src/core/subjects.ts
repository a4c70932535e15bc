/** Every subject of the platform's own, in one place; all lie under the namespace token. */
export interface Subjects {
  /** Plain NATS requests by function name; a queue group for each function. */
  fn(functionName: string): string;
  /** Frames of calls for one worker. */
  workerCall(workerId: string): string;
  /** Likewise, of one function, from who may call only that: nothing that workers say to each other is taken there. */
  workerAsk(workerId: string, functionName: string): string;
  /** What readers say of a worker's answers in parts: docs/streaming.md. */
  workerStream(workerId: string, key: string): string;
  /** Answered with the worker's beat as long as it is connected. */
  workerPing(workerId: string): string;
  /** Answered with the worker's report: what inspect gathers. */
  workerReport(workerId: string): string;
  /** Answered by every worker with its announcement, to the reply subject. */
  readonly hello: string;
  readonly announce: string;
  readonly beat: string;
  readonly leave: string;
  /** All of announce, beat and leave. */
  readonly membership: string;
  /** A worker's journal or a partition's claims, and a partition's snapshots: captured by the platform's own streams. */
  log(name: string): string;
  snapshot(partition: string): string;
  /** Who hosts partitions and which: see state/cluster.ts. */
  readonly stateBeat: string;
  readonly stateLeave: string;
  /** The assignment of partitions has changed. */
  readonly stateAssignment: string;
  /** Asks for another number of partitions: one worker answers. */
  readonly statePartitions: string;
  /** Asks the owner of a partition to let go of it. */
  stateRelease(workerId: string): string;
  /** Asks all workers to remove nothing for a while: bus/retention.ts. */
  readonly stateRetain: string;
  /** What functions on other workers do in a transaction of this worker's. */
  stateJoin(workerId: string): string;
  /** Asks a worker about the keys of a partition that it owns. */
  stateAsk(workerId: string): string;
  /** Answered with the worker's report of its partitions and transactions. */
  stateReport(workerId: string): string;
  /** Answered with what callers from outside need to know of its functions: worker/catalog.ts. */
  workerCatalog(workerId: string): string;
  /** Messages of transactions for one worker; `what` is the phase: prepare, vote, commit, abort, outcome, access, move. */
  tx(what: string, workerId: string): string;
  /** A function's dead letters: captured by a stream of the platform's own. */
  dead(functionName: string): string;
  /** Dead letters that are to be handled again: likewise. */
  replay(functionName: string): string;
  /** What the ticks of a function's schedule come under; nothing is published there. */
  cron(functionName: string): string;
  /** An event that waits for its time, and where the broker publishes it then: captured by a stream of the platform's own. */
  later(token: string): string;
  due(token: string): string;
  /** What kept answers are wrong: cache/invalidations.ts. */
  readonly cache: string;
  /** Asks all workers to load versions that are to run, and says that others run from now on: deploy/rollout.ts. */
  readonly deployPrepare: string;
  readonly deploySwitch: string;
  inspect(what: string): string;
  /** A function's log lines of one worker, while somebody follows. */
  logLines(functionName: string, workerId: string): string;
  /** Asks all workers for a function's last log lines, or says that somebody follows. */
  logAsk(functionName: string): string;
  /** Runs of one worker as they end, while somebody follows; and where followers say so: bus/run-traces.ts. */
  runs(workerId: string): string;
  readonly runsAsk: string;
  /** Says which question is being answered: its reply subject. */
  readonly inspecting: string;
  /** The queue group that answers requests of functions that nobody has. */
  readonly unknownGroup: string;
  /** The queue group of a function's subscriptions. */
  queueGroup(functionName: string): string;
}

/**
 * Is the reply subject of a message one where an answer is no word of the broker's or the platform's? `inboxesOnly`: nor an
 * event, which its requester may not be allowed to publish.
 */
export function mayBeAnswered(reply: string, namespace: string, inboxesOnly = false): boolean {
  if (inboxesOnly) return reply.startsWith('_INBOX.');
  return !reply.startsWith('$') && !reply.startsWith(`${namespace}.`);
}

export function subjectsOf(namespace: string): Subjects {
  return {
    fn: (functionName) => `${namespace}.fn.${functionName}`,
    workerCall: (workerId) => `${namespace}.worker.${workerId}.call`,
    workerAsk: (workerId, functionName) => `${namespace}.worker.${workerId}.ask.${functionName}`,
    workerStream: (workerId, key) => `${namespace}.worker.${workerId}.stream.${key}`,
    workerPing: (workerId) => `${namespace}.worker.${workerId}.ping`,
    workerReport: (workerId) => `${namespace}.worker.${workerId}.report`,
    workerCatalog: (workerId) => `${namespace}.worker.${workerId}.catalog`,
    hello: `${namespace}.hello`,
    announce: `${namespace}.members.announce`,
    beat: `${namespace}.members.beat`,
    leave: `${namespace}.members.leave`,
    membership: `${namespace}.members.*`,
    log: (name) => `${namespace}.log.${name}`,
    snapshot: (partition) => `${namespace}.snapshot.${partition}`,
    cache: `${namespace}.cache`,
    stateBeat: `${namespace}.state.beat`,
    stateLeave: `${namespace}.state.leave`,
    stateAssignment: `${namespace}.state.assignment`,
    statePartitions: `${namespace}.state.partitions`,
    stateRelease: (workerId) => `${namespace}.state.release.${workerId}`,
    stateRetain: `${namespace}.state.retain`,
    stateJoin: (workerId) => `${namespace}.state.join.${workerId}`,
    stateAsk: (workerId) => `${namespace}.state.ask.${workerId}`,
    stateReport: (workerId) => `${namespace}.state.report.${workerId}`,
    tx: (what, workerId) => `${namespace}.tx.${what}.${workerId}`,
    dead: (functionName) => `${namespace}.dead.${functionName}`,
    replay: (functionName) => `${namespace}.replay.${functionName}`,
    cron: (functionName) => `${namespace}.cron.${functionName}`,
    later: (token) => `${namespace}.later.${token}`,
    due: (token) => `${namespace}.due.${token}`,
    deployPrepare: `${namespace}.deploy.prepare`,
    deploySwitch: `${namespace}.deploy.switch`,
    inspect: (what) => `${namespace}.inspect.${what}`,
    logLines: (functionName, workerId) => `${namespace}.logs.${functionName}.${workerId}`,
    logAsk: (functionName) => `${namespace}.logs-ask.${functionName}`,
    runs: (workerId) => `${namespace}.runs.${workerId}`,
    runsAsk: `${namespace}.runs-ask`,
    inspecting: `${namespace}.inspecting`,
    // A dot keeps it apart from the group of any function.
    unknownGroup: `${namespace}.unknown`,
    queueGroup: (functionName) => `${namespace}-${functionName}`,
  };
}
