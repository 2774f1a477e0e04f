/**
 * A real Elasticsearch of two nodes on one machine. The first alone is eligible as master, since of two such nodes neither may go
 * on without the other: the second holds data and can be taken away. In production a third, small node gives the vote.
 */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '../collector/traffic.ts';
import {
  type ElasticsearchVersion,
  type RunningServer,
  type ServerOptions,
  startElasticsearch,
} from './elasticsearch.ts';
import type { Skipped } from './require.ts';

export interface RunningCluster {
  /** Of the master and of the data node. */
  readonly urls: readonly [string, string];
  readonly second: Pick<RunningServer, 'halt' | 'resume'>;
  /** Resolves when every shard has all of its copies. */
  untilGreen(): Promise<void>;
  /** Processor time of each node that answers, in milliseconds, since it was started. */
  cpuMs(): Promise<readonly number[]>;
  stop(): Promise<void>;
}

const GREEN_MS_MAX = 60_000;

/** Two at once start on two cores, beside other tests: the compiler's last step costs more there than it saves. */
const QUICK: ServerOptions = {
  prepare: (home) => writeFile(join(home, 'config/jvm.options.d/quick.options'), '-XX:TieredStopAtLevel=1\n'),
};

export async function startCluster(version: ElasticsearchVersion): Promise<RunningCluster | Skipped> {
  const transportPort = await freePort();
  const shared = [`cluster.name: growth-${randomBytes(4).toString('hex')}`, 'discovery.type: multi-node'];
  const started = await Promise.allSettled([
    startElasticsearch(version, {
      ...QUICK,
      settings: [
        ...[...shared, 'node.name: first', 'node.roles: [master, data]', `transport.port: ${transportPort}`],
        'cluster.initial_master_nodes: [first]',
      ],
    }),
    startElasticsearch(version, {
      ...QUICK,
      settings: [
        ...[...shared, 'node.name: second', 'node.roles: [data]', 'transport.port: 0'],
        `discovery.seed_hosts: ["127.0.0.1:${transportPort}"]`,
      ],
    }),
  ]);
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    for (const result of started)
      if (result.status === 'fulfilled' && 'stop' in result.value) await result.value.stop();
    throw failed.reason;
  }
  const [first, second] = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  if (first === undefined || second === undefined) throw new Error('both were started');
  if ('skipped' in first) return first;
  if ('skipped' in second) return second;
  const get = async (path: string) => {
    const response = await fetch(`${first.url}${path}`, { signal: AbortSignal.timeout(GREEN_MS_MAX) });
    return response.json();
  };
  const stop = async () => void (await Promise.all([first.stop(), second.stop()]));
  return {
    ...{ urls: [first.url, second.url], second, stop },
    async untilGreen() {
      const path = `/_cluster/health?wait_for_status=green&wait_for_nodes=2&timeout=${GREEN_MS_MAX / 1000}s`;
      const health = (await get(path)) as { status: string; timed_out: boolean };
      if (health.timed_out) throw new Error(`the cluster is ${health.status} after ${GREEN_MS_MAX} ms`);
    },
    async cpuMs() {
      const { nodes } = (await get('/_nodes/stats/process')) as {
        nodes: Record<string, { process: { cpu: { total_in_millis: number } } }>;
      };
      return Object.values(nodes).map((node) => node.process.cpu.total_in_millis);
    },
  };
}
