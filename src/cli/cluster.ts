import type { Command } from 'commander';
import { clusterPorts, findBroker, startCluster } from '../broker/index.ts';
import { wholeNumber } from './options.ts';
import { print, printError } from './output.ts';

interface ClusterFlags {
  port: number;
}

export function clusterCommand(program: Command): void {
  program
    .command('cluster')
    .summary('start three NATS servers here that are one cluster, for trying')
    .description(
      `Starts three NATS servers on this machine with the files of config/cluster. They keep what they have in .millrace/cluster. To
survive the loss of a machine, start them on three: see docs/operations.md. Ctrl-C stops them.`,
    )
    .option(
      '--port <n>',
      'port of the first server; the others have the next two, and each more ports 2,000 and 4,000 above',
      wholeNumber(1, 61_000),
      4222,
    )
    .action(async ({ port }: ClusterFlags) => {
      const cluster = await startCluster({
        binary: await findBroker({ onProgress: printError }),
        directory: process.cwd(),
        ports: clusterPorts(port),
      });
      const urls = cluster.urls.join(',');
      const monitors = cluster.ports.map(({ monitor }) => `http://127.0.0.1:${monitor}`).join(',');
      print(`three servers are one cluster, Ctrl-C stops them

  npx millrace dev --server ${urls} --replicas 3
  npx millrace doctor --server ${urls} --replicas 3 --monitor ${monitors}
`);
      const ended = cluster.servers.map(async (server, index) => {
        const { unexpected, code, signal } = await server.exited;
        // The others go on without it; so it is said, and no reason to stop.
        if (unexpected)
          printError(
            `server ${index + 1} has ended (${signal ?? code}): ${server.storeDir}/broker.log`,
          );
        return unexpected;
      });
      await Promise.race([stopSignal(), Promise.all(ended)]);
      await cluster.stop();
      if ((await Promise.all(ended)).every(Boolean)) process.exitCode = 1;
    });
}

function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}
