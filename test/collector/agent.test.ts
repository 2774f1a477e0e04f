import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { type RunningCollector, startCollector } from './run.ts';
import { ACCESSES_A_TRACE, acceptedOf, freePort, SPANS_A_TRACE, sendTraces } from './traffic.ts';

const LAYERS = ['deploy/collector/agent.yaml', 'deploy/collector/identity.yaml'];
const collector = inject('collector');

describe.skipIf('skipped' in collector)('a Collector with deploy/collector/agent.yaml on a host', () => {
  let folder: string;
  let port: number;
  let spantrail: RunningProcess;
  let otelcol: RunningCollector;

  const start = () =>
    startProcess(['--store', 'duckdb', '--data-dir', join(folder, 'data'), '--grpc-port', String(port)]);
  const agent = () =>
    startCollector({ layers: LAYERS, folder, environment: { SPANTRAIL_ENDPOINT: `127.0.0.1:${port}` } });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-agent-'));
    port = await freePort();
    spantrail = await start();
    otelcol = await agent();
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  const idsOf = async (service: string) =>
    (await spantrail.search(`service.name: ${service}`)).map(({ event }) => event.id);

  it('brings as many accesses as were sent', async () => {
    const traces = 200;
    await sendTraces(otelcol.url, 'through', traces);
    await expect
      .poll(() => acceptedOf(spantrail, 'traces'), { timeout: 60_000 })
      .toBeGreaterThanOrEqual(traces * SPANS_A_TRACE);
    await spantrail.settled();
    const ids = await idsOf('through');
    expect(ids).toHaveLength(traces * ACCESSES_A_TRACE);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('loses nothing that it accepted while Spantrail was away and it was killed itself', async () => {
    const traces = 100;
    await spantrail.stop();
    await sendTraces(otelcol.url, 'later', traces);
    // In the same moment: what has an answer is on its disk.
    await otelcol.stop('SIGKILL');
    otelcol = await agent();
    // It says plainly what is wrong, and goes on.
    await expect.poll(() => otelcol.log(), { timeout: 30_000 }).toMatch(/connection refused/);
    await otelcol.stop('SIGKILL');
    spantrail = await start();
    otelcol = await agent();
    await expect
      .poll(async () => new Set(await idsOf('later')).size, { timeout: 60_000, interval: 200 })
      .toBe(traces * ACCESSES_A_TRACE);
  });
});
