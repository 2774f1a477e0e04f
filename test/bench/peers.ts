import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { provideCollector } from '../setup/collector.ts';
import { startProgram } from '../setup/program.ts';
import { sleep } from './probe.ts';
import { processUse, untilQuiet } from './process-use.ts';
import { pinned, type Receiver } from './receiver.ts';

/** A pipeline of a real Collector that the bench compares with. */
interface Pipeline {
  readonly processors: Readonly<Record<string, object>>;
  readonly exporter: (folder: string) => Readonly<Record<string, object>>;
  /** How long it holds spans back before it goes on with them: it is quiet meanwhile, and not done. */
  readonly holdsMs: number;
}

const NOP = () => ({ nop: {} });
const HOLDS_MS = 2_000;
/** More than any run has: neither may let go of traces before their time. */
const TRACES_HELD_MAX = 2_000_000;

export const PIPELINES = {
  nop: { processors: {}, exporter: NOP, holdsMs: 0 },
  tail_sampling: {
    processors: {
      tail_sampling: {
        decision_wait: `${HOLDS_MS}ms`,
        num_traces: TRACES_HELD_MAX,
        policies: [{ name: 'all', type: 'always_sample' }],
      },
    },
    exporter: NOP,
    holdsMs: HOLDS_MS,
  },
  groupbytrace: {
    processors: { groupbytrace: { wait_duration: `${HOLDS_MS}ms`, num_traces: TRACES_HELD_MAX } },
    exporter: (folder) => ({ file: { path: join(folder, 'spans'), format: 'proto' } }),
    holdsMs: HOLDS_MS,
  },
} as const satisfies Readonly<Record<string, Pipeline>>;

export type PipelineName = keyof typeof PIPELINES;

/**
 * Starts a Collector with one pipeline on the given cores. Its own metrics are off and its log tells of warnings only, so
 * that it costs as little as it can.
 */
export async function startCollector(name: PipelineName, cores: string): Promise<Receiver> {
  const collector = await provideCollector();
  if ('skipped' in collector) throw new Error(`${collector.skipped}; SPANTRAIL_REQUIRE=collector builds it`);
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-bench-collector-'));
  const port = await freePort();
  const file = join(folder, 'collector.json');
  // YAML takes JSON.
  await writeFile(file, JSON.stringify(configOf(PIPELINES[name], port, folder)));
  const [program, ...parameters] = pinned(cores, [collector.binary, '--config', file]);
  const running = await startProgram(program, parameters, /Everything is ready/, { environment: process.env });
  const use = processUse(running.pid);
  const end = async (signal: NodeJS.Signals) => {
    await running.stop(signal);
    await rm(folder, { recursive: true, force: true });
  };
  return {
    ...use,
    grpcPort: port,
    apiUrl: undefined,
    ask: () => Promise.reject(new Error('a Collector is not asked')),
    logged: () => Promise.reject(new Error('what a Collector logs is not kept')),
    async untilIdle() {
      await sleep(PIPELINES[name].holdsMs);
      await untilQuiet(use);
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  };
}

function configOf({ processors, exporter }: Pipeline, port: number, folder: string): object {
  const exporters = exporter(folder);
  const names = Object.keys(exporters);
  const endpoint = `127.0.0.1:${port}`;
  return {
    receivers: { otlp: { protocols: { grpc: { endpoint, max_recv_msg_size_mib: 64 } } } },
    processors,
    exporters,
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: {
        traces: { receivers: ['otlp'], processors: Object.keys(processors), exporters: names },
        logs: { receivers: ['otlp'], exporters: names },
      },
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
