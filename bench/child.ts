/** The one entry of every measured process: `child.ts <role> <peer> <url>`, told what to do over IPC. */
import { setTimeout as delay } from 'node:timers/promises';
import { closedLoop } from './loop.ts';
import { loadPeer } from './peers/load.ts';
import {
  READY_ID,
  type Answer,
  type Caller,
  type Command,
  type Commands,
  type Question,
  type Worker,
} from './protocol.ts';
import { operand } from './work.ts';

const REACH_TRY_MS = 1_000;

type Handlers = {
  [C in Command]?: (argument: Commands[C]['argument']) => Promise<Commands[C]['result']>;
};

async function reach(caller: Caller, withinMs: number): Promise<null> {
  const deadline = performance.now() + withinMs;
  const [a, b] = [operand(1), operand(2)];
  let last: unknown = 'no answer';
  while (performance.now() < deadline) {
    try {
      const sum = await Promise.race([caller.call(a, b), delay(REACH_TRY_MS)]);
      if (sum === a + b) return null;
    } catch (error) {
      last = error;
      await delay(100);
    }
  }
  throw new Error(`the worker did not answer within ${withinMs} ms: ${String(last)}`);
}

function callerHandlers(caller: Caller): Handlers {
  return {
    reach: ({ withinMs }) => reach(caller, withinMs),
    measure: (load) => closedLoop(caller, load),
    stop: async () => (await caller.close(), null),
  };
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function workerHandlers(worker: Worker): Handlers {
  return {
    cpu: async () => ({ cpuMs: worker.cpuMs?.() ?? ownCpuMs() }),
    stop: async () => (await worker.close(), null),
  };
}

async function answer(handlers: Handlers, question: Question): Promise<Answer> {
  const handler = handlers[question.command] as
    ((argument: unknown) => Promise<Commands[Command]['result']>) | undefined;
  try {
    if (handler === undefined) throw new Error(`no command ${question.command} here`);
    return { id: question.id, result: await handler(question.argument) };
  } catch (error) {
    return { id: question.id, failed: String(error) };
  }
}

function send(message: Answer, sent?: () => void): void {
  process.send?.(message, undefined, {}, sent);
}

async function main(role: string, name: string, url: string): Promise<void> {
  let handlers: Handlers = {};
  process.on('disconnect', () => {
    // The parent is gone. Take along what this process has started.
    void Promise.resolve(handlers.stop?.(null)).finally(() => process.exit());
  });
  const peer = await loadPeer(name);
  handlers =
    role === 'caller'
      ? callerHandlers(await peer.startCaller(url))
      : workerHandlers(await peer.startWorker(url));

  const onMessage = async (question: Question): Promise<void> => {
    const message = await answer(handlers, question);
    send(message, question.command === 'stop' ? () => process.exit() : undefined);
  };
  process.on('message', (question: Question) => void onMessage(question));
  send({ id: READY_ID, result: null });
}

const [role = '', name = '', url = ''] = process.argv.slice(2);
try {
  await main(role, name, url);
} catch (error) {
  send({ id: READY_ID, failed: String(error) }, () => process.exit(1));
}
