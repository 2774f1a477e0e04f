/**
 * Several Spantrails as people run them: a real Collector with the project's own file before them, and a real Elasticsearch of two
 * nodes behind them, all on the loopback address.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../collector/traffic.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { type RunningCluster, startCluster } from '../setup/elasticsearch-cluster.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import type { Skipped } from '../setup/require.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Clock ticks a second in /proc (USER_HZ), 100 on every Linux that Node runs on. */
const TICKS_A_SECOND = 100;

/** Of a log, in characters: its last lines. */
export const LOG_TOLD_MAX = 4_000;

export interface House {
  readonly cluster: RunningCluster;
  readonly namespace: string;
  /** Where the Collector takes OTLP over HTTP. */
  readonly collectorUrl: string;
  /** Those that run, by name. */
  readonly instances: ReadonlyMap<string, RunningProcess>;
  /** Those of them to which events are sent. */
  readonly doors: readonly RunningProcess[];
  /** Starts one, or starts it again with what it left. It gets nothing of a trace until `route` names it. */
  start(name: string): Promise<RunningProcess>;
  end(name: string, signal: NodeJS.Signals): Promise<void>;
  /** No sender of events knows it any more. */
  withhold(name: string): void;
  /** When the routing was changed, milliseconds of performance.now(). */
  readonly changesMs: readonly number[];
  /** From now on the Collector spreads traces over these. */
  route(names: readonly string[]): Promise<void>;
  /** What the Collector wrote last. */
  collectorLog(): Promise<string>;
  /** Processor time so far, in seconds. */
  cpuSeconds(): Promise<{ collector: number; spantrails: number; elasticsearch: number }>;
  close(): Promise<void>;
}

export async function openHouse(binary: string, names: readonly string[]): Promise<House | Skipped> {
  const cluster = await startCluster('9.5.0');
  if ('skipped' in cluster) return cluster;
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-growth-'));
  const built = new BuiltHouse(cluster, folder);
  try {
    await Promise.all(names.map((name) => built.start(name)));
    await built.startCollector(binary, names);
    return built;
  } catch (error) {
    await built.close();
    throw error;
  }
}

class BuiltHouse implements House {
  readonly cluster: RunningCluster;
  readonly namespace = `growth${randomBytes(4).toString('hex')}`;
  readonly instances = new Map<string, RunningProcess>();
  readonly changesMs: number[] = [];
  readonly #withheld = new Set<string>();
  readonly #folder: string;
  readonly #secret = randomBytes(32).toString('hex');
  readonly #ports = new Map<string, number>();
  readonly #ticksGone = new Map<string, number>();
  #collector: RunningProgram | undefined;
  #collectorPorts: Promise<readonly [number, number]> = Promise.all([freePort(), freePort()]);
  collectorUrl = '';

  constructor(cluster: RunningCluster, folder: string) {
    this.cluster = cluster;
    this.#folder = folder;
  }

  async start(name: string): Promise<RunningProcess> {
    const port = this.#ports.get(name) ?? (await freePort());
    this.#ports.set(name, port);
    const [collectorPort] = await this.#collectorPorts;
    const place = ['--store', 'elasticsearch', '--data-dir', join(this.#folder, name), '--grpc-port', String(port)];
    const running = await startProcess(place, {
      SPANTRAIL_NAMESPACE: this.namespace,
      SPANTRAIL_STORE_ELASTICSEARCH_URLS: JSON.stringify(this.cluster.urls),
      SPANTRAIL_STORE_ELASTICSEARCH_REPLICAS: '1',
      SPANTRAIL_FORWARD_ENDPOINT: `http://127.0.0.1:${collectorPort}`,
      SPANTRAIL_FORWARD_SECRET: this.#secret,
    });
    this.instances.set(name, running);
    return running;
  }

  get doors(): RunningProcess[] {
    return [...this.instances].flatMap(([name, running]) => (this.#withheld.has(name) ? [] : [running]));
  }

  withhold(name: string): void {
    this.#withheld.add(name);
  }

  async end(name: string, signal: NodeJS.Signals): Promise<void> {
    const running = this.instances.get(name);
    if (running === undefined) return;
    this.instances.delete(name);
    this.#ticksGone.set(name, (this.#ticksGone.get(name) ?? 0) + (await ticksOf(running.process.pid)));
    await running.stop(signal);
  }

  async startCollector(binary: string, names: readonly string[]): Promise<void> {
    const [grpc, http] = await this.#collectorPorts;
    this.collectorUrl = `http://127.0.0.1:${http}`;
    await this.#writeRoutes(names);
    const layers = [
      join(ROOT, 'otel-collector-config.yaml'),
      this.#routesFile,
      // Its own metrics would listen on a fixed port.
      'yaml:service::telemetry::metrics::level: none',
      `yaml:service::telemetry::logs::output_paths: [stderr, ${JSON.stringify(this.#logFile)}]`,
    ];
    const environment = {
      ...process.env,
      COLLECTOR_GRPC_ENDPOINT: `127.0.0.1:${grpc}`,
      COLLECTOR_HTTP_ENDPOINT: `127.0.0.1:${http}`,
      COLLECTOR_QUEUE_DIR: join(this.#folder, 'queue'),
      // Of metrics, which nobody sends here.
      SPANTRAIL_ENDPOINT: `127.0.0.1:${this.#ports.get(names[0] ?? '')}`,
    };
    const parameters = layers.flatMap((layer) => ['--config', layer]);
    this.#collector = await startProgram(binary, parameters, /Everything is ready/, { environment });
  }

  async route(names: readonly string[]): Promise<void> {
    const readies = async () => (await readFile(this.#logFile, 'utf8')).split('Everything is ready').length;
    const before = await readies();
    this.changesMs.push(performance.now());
    await this.#writeRoutes(names);
    // It reads its files again: what it holds goes to its queue first.
    this.#collector?.signal('SIGHUP');
    while ((await readies()) === before) await new Promise((resolve) => setTimeout(resolve, 50));
    this.changesMs.push(performance.now());
  }

  async collectorLog(): Promise<string> {
    return (await readFile(this.#logFile, 'utf8').catch(String)).slice(-LOG_TOLD_MAX);
  }

  async cpuSeconds() {
    let ticks = [...this.#ticksGone.values()].reduce((sum, each) => sum + each, 0);
    for (const { process: child } of this.instances.values()) ticks += await ticksOf(child.pid);
    return {
      collector: (await ticksOf(this.#collector?.pid)) / TICKS_A_SECOND,
      spantrails: ticks / TICKS_A_SECOND,
      elasticsearch: (await this.cluster.cpuMs()).reduce((sum, each) => sum + each, 0) / 1000,
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.instances.keys()].map((name) => this.end(name, 'SIGKILL')));
    await this.#collector?.stop('SIGKILL');
    await this.cluster.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  get #logFile(): string {
    return join(this.#folder, 'collector.log');
  }

  get #routesFile(): string {
    return join(this.#folder, 'routes.yaml');
  }

  async #writeRoutes(names: readonly string[]): Promise<void> {
    const hosts = names.map((name) => JSON.stringify(`127.0.0.1:${this.#ports.get(name)}`));
    const text = `exporters: { load_balancing/spantrail: { resolver: { static: { hostnames: [${hosts.join(', ')}] } } } }\n`;
    await writeFile(this.#routesFile, text);
  }
}

/** User and system time of a process: fields 14 and 15 of its stat, behind the name in brackets. */
async function ticksOf(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}
