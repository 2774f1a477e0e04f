import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { PipelineAnswer, RecordsAnswer } from '../../src/api/contract.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { ACCESSES_A_TRACE, freePort, SPANS_A_TRACE, tracesRequest } from './traffic.ts';

const ROOT = join(import.meta.dirname, '../..');
const CONFIG = join(ROOT, 'otel-collector-config.yaml');

const TRACES_A_REQUEST = 20;

interface Ports {
  readonly grpc: number;
  readonly http: number;
  readonly api: number;
}

const collector = inject('collector');

describe.skipIf('skipped' in collector)('a Collector with otel-collector-config.yaml in front of Spantrail', () => {
  let folder: string;
  let spantrail: RunningProgram & { readonly ports: Ports };
  let otelcol: RunningProgram;
  let collectorUrl: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-collector-test-'));
    const [grpc, http] = [await freePort(), await freePort()];
    collectorUrl = `http://127.0.0.1:${http}`;
    spantrail = await startSpantrail();
    otelcol = await startCollector(grpc, http);
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  async function startSpantrail() {
    const command = ['src/cli/spantrail.mjs', 'serve', '--store', 'memory', '--data-dir', join(folder, 'data')];
    const ports = ['grpc', 'http', 'api'].flatMap((name) => [`--${name}-port`, '0']);
    const program = await startProgram(process.execPath, [...command, ...ports], /^\{.*"api".*\}$/m, { folder: ROOT });
    return { ...program, ports: JSON.parse(program.ready[0]) as Ports };
  }

  function startCollector(grpc: number, http: number): Promise<RunningProgram> {
    const environment = {
      ...process.env,
      COLLECTOR_GRPC_ENDPOINT: `127.0.0.1:${grpc}`,
      COLLECTOR_HTTP_ENDPOINT: `127.0.0.1:${http}`,
      COLLECTOR_QUEUE_DIR: join(folder, 'queue'),
      SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrail.ports.grpc}`,
    };
    // Its own metrics would listen on a fixed port.
    const quiet = ['--config', 'yaml:service::telemetry::metrics::level: none'];
    const binary = 'binary' in collector ? collector.binary : '';
    return startProgram(binary, ['--config', CONFIG, ...quiet], /Everything is ready/, { environment });
  }

  /** Sends traces until the Collector has accepted all of them. */
  async function send(service: string, traces: number): Promise<void> {
    for (let first = 0; first < traces; first += TRACES_A_REQUEST) {
      const numbers = Array.from({ length: Math.min(TRACES_A_REQUEST, traces - first) }, (_, index) => first + index);
      const response = await fetch(`${collectorUrl}/v1/traces`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(tracesRequest(service, numbers)),
      });
      expect(response.status).toBe(200);
    }
  }

  async function pipeline(): Promise<PipelineAnswer> {
    return (await fetch(`http://127.0.0.1:${spantrail.ports.api}/api/v1/pipeline`)).json() as Promise<PipelineAnswer>;
  }

  /** Waits until Spantrail has accepted this many spans and stored what they make. */
  async function settled(spans: number): Promise<number> {
    for (;;) {
      const { counters, pending } = await pipeline();
      const accepted = counters
        .filter((sample) => sample.name === 'accepted' && sample.labels['signal'] === 'traces')
        .reduce((sum, sample) => sum + sample.value, 0);
      if (accepted >= spans && pending.evidence === 0) return accepted;
      await sleep(100);
    }
  }

  async function recordIds(service: string): Promise<string[]> {
    const ids: string[] = [];
    let cursor: string | undefined;
    do {
      const parameters = new URLSearchParams({ q: `service.name: ${service}`, inner: 'true', limit: '1000' });
      if (cursor !== undefined) parameters.set('cursor', cursor);
      const response = await fetch(`http://127.0.0.1:${spantrail.ports.api}/api/v1/records?${parameters}`);
      const page = (await response.json()) as RecordsAnswer;
      ids.push(...page.records.map((record) => record.event.id));
      cursor = page.next;
    } while (cursor !== undefined);
    return ids;
  }

  it('indexes as many accesses as were sent', async () => {
    const traces = 1000;
    await send('through', traces);
    expect(await settled(traces * SPANS_A_TRACE)).toBe(traces * SPANS_A_TRACE);
    const ids = await recordIds('through');
    expect(ids.length).toBe(traces * ACCESSES_A_TRACE);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('loses nothing that the Collector accepted while Spantrail was away and it was killed itself', async () => {
    const traces = 100;
    // What an earlier run accepted is in the sums, too.
    const before = await settled(0);
    await spantrail.stop();
    await send('later', traces);
    await otelcol.stop('SIGKILL');
    spantrail = await startSpantrail();
    const [grpc, http] = [await freePort(), await freePort()];
    collectorUrl = `http://127.0.0.1:${http}`;
    otelcol = await startCollector(grpc, http);
    await settled(before + traces * SPANS_A_TRACE);
    expect(new Set(await recordIds('later')).size).toBe(traces * ACCESSES_A_TRACE);
  });
});
