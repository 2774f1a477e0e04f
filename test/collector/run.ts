/** Real Collectors for tests: one with the project's files, and one that stands for the tool a team has already. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, inject } from 'vitest';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { freePort } from './traffic.ts';

export const ROOT = join(import.meta.dirname, '../..');

/** Its own metrics would listen on a fixed port. */
const QUIET = 'yaml:service::telemetry::metrics::level: none';

export interface RunningCollector extends RunningProgram {
  /** Host and port where it takes OTLP over gRPC. */
  readonly grpc: string;
  /** Where it takes OTLP over HTTP. */
  readonly url: string;
  /** Its own metrics in the text format of Prometheus; only when asked for. */
  metrics(): Promise<string>;
  /** What it has logged, earlier runs in the same folder included. */
  log(): Promise<string>;
}

export interface CollectorOptions {
  /** Files of the project, by their paths in it, or `yaml:…`; later ones are laid over earlier ones. */
  readonly layers: readonly string[];
  /** Holds its queue. The same folder again is a restart. */
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly withMetrics?: boolean;
}

export function collectorBinary(): string {
  const collector = inject('collector');
  return 'binary' in collector ? collector.binary : '';
}

export async function startCollector(options: CollectorOptions): Promise<RunningCollector> {
  const [grpc, http, own, health] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const reader = `{pull: {exporter: {prometheus: {host: 127.0.0.1, port: ${own}}}}}`;
  const telemetry = options.withMetrics === true ? `yaml:service::telemetry::metrics::readers: [${reader}]` : QUIET;
  const log = join(options.folder, 'collector.log');
  const told = `yaml:service::telemetry::logs::output_paths: [stderr, ${JSON.stringify(log)}]`;
  const layers = [
    ...options.layers.map((layer) => (/^yaml:/.test(layer) ? layer : join(ROOT, layer))),
    telemetry,
    told,
  ];
  const environment = {
    ...process.env,
    COLLECTOR_GRPC_ENDPOINT: `127.0.0.1:${grpc}`,
    COLLECTOR_HTTP_ENDPOINT: `127.0.0.1:${http}`,
    COLLECTOR_HEALTH_ENDPOINT: `127.0.0.1:${health}`,
    COLLECTOR_QUEUE_DIR: join(options.folder, 'queue'),
    ...options.environment,
  };
  const parameters = layers.flatMap((layer) => ['--config', layer]);
  const program = await startProgram(collectorBinary(), parameters, /Everything is ready/, {
    environment,
    folder: options.folder,
  });
  const metrics = async () => (await fetch(`http://127.0.0.1:${own}/metrics`)).text();
  return {
    ...program,
    grpc: `127.0.0.1:${grpc}`,
    url: `http://127.0.0.1:${http}`,
    metrics,
    log: () => readFile(log, 'utf8'),
  };
}

/** A Collector that writes what it gets to a file, as the tool that a team has already. */
export interface Backend extends RunningProgram {
  /** Host and port, OTLP over gRPC. */
  readonly endpoint: string;
  /** Every span it was sent, by trace and span id, with how often it came. */
  spans(): Promise<Map<string, number>>;
  /** All that it was sent, as text. */
  text(): Promise<string>;
}

export async function startBackend(folder: string): Promise<Backend> {
  const file = join(folder, 'backend.jsonl');
  const port = await freePort();
  const config = [
    `receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:${port}", max_recv_msg_size_mib: 64}}}}`,
    `exporters: {file: {path: ${JSON.stringify(file)}, flush_interval: 100ms}}`,
    'service: {pipelines: {traces: {receivers: [otlp], exporters: [file]}, logs: {receivers: [otlp], exporters: [file]}, metrics: {receivers: [otlp], exporters: [file]}}}',
  ];
  const parameters = ['--config', `yaml:${config.join('\n')}`, '--config', QUIET];
  const program = await startProgram(collectorBinary(), parameters, /Everything is ready/);
  const text = () => readFile(file, 'utf8').catch(() => '');
  return { ...program, endpoint: `127.0.0.1:${port}`, text, spans: async () => countSpans(await text()) };
}

interface TracesLine {
  readonly resourceSpans?: readonly {
    readonly scopeSpans: readonly {
      readonly spans: readonly { readonly traceId: string; readonly spanId: string }[];
    }[];
  }[];
}

function countSpans(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  // The last line may still be on its way.
  for (const line of text.split('\n').slice(0, -1)) {
    const { resourceSpans = [] } = JSON.parse(line) as TracesLine;
    for (const { traceId, spanId } of resourceSpans.flatMap(({ scopeSpans }) =>
      scopeSpans.flatMap(({ spans }) => spans),
    )) {
      counts.set(`${traceId} ${spanId}`, (counts.get(`${traceId} ${spanId}`) ?? 0) + 1);
    }
  }
  return counts;
}

/** Waits until the backend has this many spans and, for a while after, no more: each of them once. */
export async function expectEachOnce(backend: Backend, spans: number): Promise<void> {
  await expect.poll(async () => (await backend.spans()).size, { timeout: 60_000, interval: 100 }).toBe(spans);
  // A sender that tries again does so within a second.
  await sleep(1500);
  const counts = await backend.spans();
  expect(counts.size).toBe(spans);
  expect([...counts.values()].filter((count) => count !== 1)).toEqual([]);
}

/** Sends one OTLP/JSON request; resolves with its status. */
export async function post(url: string, signal: 'traces' | 'logs' | 'metrics', body: object): Promise<number> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${url}/v1/${signal}`, { method: 'POST', headers, body: JSON.stringify(body) });
  await response.arrayBuffer();
  return response.status;
}
