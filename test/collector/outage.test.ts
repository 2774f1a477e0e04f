/**
 * A real Collector in front of a Spantrail that refuses, and of one that is gone. In the usual run for as long as it takes to
 * show that retries carry it over; `SPANTRAIL_OUTAGE_SECONDS=60` makes it the full minute.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { ACCESSES_A_TRACE, freePort, tracesRequest } from './traffic.ts';

const OUTAGE_SECONDS = Number(process.env['SPANTRAIL_OUTAGE_SECONDS'] ?? 15);
/** Over the Collector's longest wait between two tries, 30 s. */
const TEST_MS_MAX = OUTAGE_SECONDS * 5_000 + 240_000;
const SHIPPED_CONFIG = join(import.meta.dirname, '../../deploy/collector/agent.yaml');
const TRACES_A_REQUEST = 20;
const REQUESTS_A_SECOND = 10;

/** As the Collector comes: a queue in memory, retries for five minutes, what does not fit is refused. */
const STANDARD_CONFIG = `
receivers:
  otlp:
    protocols:
      http: { endpoint: "\${env:COLLECTOR_HTTP_ENDPOINT}" }
exporters:
  otlp_grpc: { endpoint: "\${env:SPANTRAIL_ENDPOINT}", tls: { insecure: true } }
  otlp_http: { endpoint: "http://\${env:SPANTRAIL_HTTP_ENDPOINT}" }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [otlp_grpc, otlp_http] }
`;

/** Requests of more than a mebibyte, several at once: they are refused while they are on their way. */
const LARGE_CONFIG = `
receivers:
  otlp:
    protocols:
      http: { endpoint: "\${env:COLLECTOR_HTTP_ENDPOINT}" }
exporters:
  otlp_grpc:
    endpoint: "\${env:SPANTRAIL_ENDPOINT}"
    tls: { insecure: true }
    compression: none
    sending_queue: { batch: { flush_timeout: 2s, sizer: items, min_size: 1200, max_size: 1200 } }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [otlp_grpc] }
`;

const collector = inject('collector');

describe.skipIf('skipped' in collector)('a Collector over an outage', () => {
  let folder: string;
  let spantrail: RunningProcess | undefined;
  let otelcol: RunningProgram | undefined;
  let collectorUrl: string;
  const ports = { grpc: 0, http: 0 };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-outage-'));
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop('SIGKILL')]);
    await rm(folder, { recursive: true, force: true });
  });

  /** On the same ports every time, as a service that comes back. */
  async function start(name: string, environment: Record<string, string> = {}): Promise<RunningProcess> {
    const samePorts = ['--grpc-port', String(ports.grpc), '--http-port', String(ports.http)];
    const place = ['--store', 'duckdb', '--data-dir', join(folder, name)];
    return startProcess([...place, ...samePorts], environment);
  }

  async function startCollector(name: string, config: string): Promise<RunningProgram> {
    const [grpc, http] = [await freePort(), await freePort()];
    collectorUrl = `http://127.0.0.1:${http}`;
    const environment = {
      ...process.env,
      COLLECTOR_GRPC_ENDPOINT: `127.0.0.1:${grpc}`,
      COLLECTOR_HTTP_ENDPOINT: `127.0.0.1:${http}`,
      COLLECTOR_QUEUE_DIR: join(folder, `${name}-queue`),
      SPANTRAIL_ENDPOINT: `127.0.0.1:${ports.grpc}`,
      SPANTRAIL_HTTP_ENDPOINT: `127.0.0.1:${ports.http}`,
    };
    const telemetry = [
      // Its own metrics would listen on a fixed port.
      ...['--config', 'yaml:service::telemetry::metrics::level: none'],
      ...['--config', `yaml:service::telemetry::logs::output_paths: [stderr, ${join(folder, `${name}.log`)}]`],
    ];
    const binary = 'binary' in collector ? collector.binary : '';
    return startProgram(binary, ['--config', config, ...telemetry], /Everything is ready/, { environment });
  }

  /** Sends at a steady pace until told to stop; resolves with the number of traces that the Collector accepted. */
  function sendSteadily(service: string): () => Promise<number> {
    let isOn = true;
    const sending = (async () => {
      let accepted = 0;
      while (isOn) {
        const numbers = Array.from({ length: TRACES_A_REQUEST }, (_, index) => accepted + index);
        const response = await fetch(`${collectorUrl}/v1/traces`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(tracesRequest(service, numbers)),
        });
        expect(response.status).toBe(200);
        accepted += TRACES_A_REQUEST;
        await sleep(1000 / REQUESTS_A_SECOND);
      }
      return accepted;
    })();
    return () => {
      isOn = false;
      return sending;
    };
  }

  /** Waits until this many accesses are there, or nothing more comes: then that is what is there. */
  async function expectIndexed(service: string, traces: number): Promise<void> {
    const isThere = async () => (await spantrail?.search(`service.name: ${service}`))?.length ?? 0;
    let found = await isThere();
    for (let quietMs = 0; found < traces * ACCESSES_A_TRACE && quietMs < 90_000; quietMs += 1000) {
      await sleep(1000);
      const now = await isThere();
      if (now > found) quietMs = 0;
      found = now;
    }
    await spantrail?.settled();
    const records = (await spantrail?.search(`service.name: ${service}`)) ?? [];
    expect(records.length).toBe(traces * ACCESSES_A_TRACE);
    expect(new Set(records.map((record) => record.event.id)).size).toBe(records.length);
  }

  /** Neither exporter may have given anything up. */
  async function expectNothingDropped(name: string): Promise<string> {
    const log = await readFile(join(folder, `${name}.log`), 'utf8');
    expect(
      log.split('\n').filter((line) => /drop|permanent|no more retries|"level":"error"|\terror\t/i.test(line)),
    ).toEqual([]);
    return log;
  }

  /** Spans that wait for their root until it is known not to come: as long as that, there is no room for anything else. */
  async function fillUp({ send }: RunningProcess): Promise<void> {
    for (let number = 0; ; number++) {
      const resource = { attributes: { 'service.name': 'filler' } };
      const spans = Array.from({ length: 100 }, (_, step) => ({
        traceId: String(number).padStart(32, '7'),
        spanId: String(step).padStart(16, '7'),
        parentSpanId: '8'.repeat(16),
        name: 'x'.repeat(200),
      }));
      const status = await send('traces', encodeTraces([{ ...resource, spans }]));
      if (status === 503) return;
      expect(status).toBe(200);
    }
  }

  async function cuts(): Promise<Record<string, number>> {
    const { counters } = (await spantrail?.pipeline()) ?? { counters: [] };
    const samples = counters.filter((sample) => sample.name === 'cut');
    return Object.fromEntries(
      samples.map(({ labels, value }) => [`${labels['transport']} ${labels['reason']}`, value]),
    );
  }

  it(
    'with its standard retries loses nothing to a Spantrail that refuses',
    async () => {
      [ports.grpc, ports.http] = [await freePort(), await freePort()];
      spantrail = await start('refusing', {
        SPANTRAIL_WAL_UNSETTLED_BYTES_MAX: '4MiB',
        // What fills it is said over and over again.
        SPANTRAIL_WAL_COMPACTION: 'false',
        SPANTRAIL_WAL_SEGMENT_BYTES: '256KiB',
        SPANTRAIL_JOIN_IDLE_MS: `${OUTAGE_SECONDS}s`,
        // Two of the Collector's requests at a time.
        SPANTRAIL_RECEIVE_MAX_REQUEST_BYTES: '32KiB',
        SPANTRAIL_RECEIVE_IN_FLIGHT_BYTES_MAX: '64KiB',
      });
      await fillUp(spantrail);
      const config = join(folder, 'standard.yaml');
      await writeFile(config, STANDARD_CONFIG);
      otelcol = await startCollector('refusing', config);
      const stop = sendSteadily('refusing');
      await sleep(OUTAGE_SECONDS * 1000);
      const traces = await stop();
      await expectIndexed('refusing', traces);
      const refused = await cuts();
      expect(refused['grpc budget']).toBeGreaterThan(0);
      expect(refused['http budget']).toBeGreaterThan(0);
      const log = await expectNothingDropped('refusing');
      expect(log).toMatch(/Will retry the request after interval/);
      const tries = log.split('Will retry the request').length - 1;
      process.stdout.write(
        `refused for ${OUTAGE_SECONDS} s: ${traces} traces, ${tries} retries, ${JSON.stringify(refused)}\n`,
      );
      await Promise.all([otelcol.stop(), spantrail.stop()]);
    },
    TEST_MS_MAX,
  );

  it(
    'loses nothing of large requests to a Spantrail that has room for one at a time',
    async () => {
      [ports.grpc, ports.http] = [await freePort(), await freePort()];
      spantrail = await start('large', {
        SPANTRAIL_RECEIVE_MAX_REQUEST_BYTES: '1536KiB',
        SPANTRAIL_RECEIVE_IN_FLIGHT_BYTES_MAX: '3MiB',
      });
      const config = join(folder, 'large.yaml');
      await writeFile(config, LARGE_CONFIG);
      otelcol = await startCollector('large', config);
      const requests = 200;
      for (let request = 0; request < requests; request++) {
        const numbers = Array.from({ length: TRACES_A_REQUEST }, (_, index) => request * TRACES_A_REQUEST + index);
        const body = JSON.stringify(tracesRequest('large', numbers, 50_000));
        const headers = { 'content-type': 'application/json' };
        const response = await fetch(`${collectorUrl}/v1/traces`, { method: 'POST', headers, body });
        expect(response.status).toBe(200);
      }
      await expectIndexed('large', requests * TRACES_A_REQUEST);
      await expectNothingDropped('large');
      const refused = await cuts();
      expect(refused['grpc share']).toBeGreaterThan(0);
      process.stdout.write(`${requests} requests of 55 kB in batches of a mebibyte: ${JSON.stringify(refused)}\n`);
      await Promise.all([otelcol.stop(), spantrail.stop()]);
    },
    TEST_MS_MAX,
  );

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'with its queue on disk loses nothing to a Spantrail that is gone after %s',
    async (signal) => {
      [ports.grpc, ports.http] = [await freePort(), await freePort()];
      spantrail = await start(signal);
      otelcol = await startCollector(signal, SHIPPED_CONFIG);
      const stop = sendSteadily(signal);
      await sleep(3000);
      await spantrail.stop(signal);
      await sleep(OUTAGE_SECONDS * 1000);
      spantrail = await start(signal);
      await sleep(3000);
      const traces = await stop();
      await expectIndexed(signal, traces);
      await expectNothingDropped(signal);
      process.stdout.write(`${signal}, gone for ${OUTAGE_SECONDS} s: ${traces} traces\n`);
      await Promise.all([otelcol.stop(), spantrail.stop()]);
    },
    TEST_MS_MAX,
  );
});
