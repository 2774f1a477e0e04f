import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { METRICS } from '../../src/core/metrics.ts';
import { makeTraces } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const started: RunningProcess[] = [];
const folders: string[] = [];
const start = async (environment: Record<string, string> = {}, ...more: string[]) => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-own-'));
  folders.push(folder);
  const running = await startProcess(['--data-dir', folder, '--store', 'memory', ...more], environment);
  started.push(running);
  return running;
};

afterEach(async () => {
  await Promise.all(started.splice(0).map((running) => running.stop('SIGKILL')));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function metricsOf(running: RunningProcess): Promise<string> {
  return (await fetch(`http://127.0.0.1:${running.api}/metrics`)).text();
}

describe('own telemetry', () => {
  it('sends traces where the standard variables say, and shows metrics with unit and text', async () => {
    const observer = await start();
    const observed = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${observer.grpc}`,
      OTEL_BSP_SCHEDULE_DELAY: '100',
    });
    for (const { payload } of makeTraces(3)) await observed.send('traces', payload);
    await observed.settled();
    const accepted = async () => {
      const { counters } = await observer.pipeline();
      return counters.find((sample) => sample.name === 'accepted' && sample.labels['signal'] === 'traces')?.value ?? 0;
    };
    await expect.poll(accepted, { timeout: 20_000 }).toBeGreaterThan(0);

    const text = await metricsOf(observed);
    expect(text).toMatch(/^spantrail_accepted_total\{signal="traces".*\} 6$/m);
    expect(text).toMatch(/^spantrail_settled_total\{reason="complete".*\} 3$/m);
    expect(text).toMatch(/^spantrail_written_total.* 6$/m);
    expect(text).toContain(`# HELP spantrail_wal_bytes ${METRICS.wal_bytes.text}`);
  });

  it('never to itself', async () => {
    const first = await start();
    const { grpc } = first;
    await first.stop();
    const itself = await start(
      { OTEL_EXPORTER_OTLP_ENDPOINT: `http://localhost:${grpc}` },
      '--grpc-port',
      String(grpc),
    );
    await expect.poll(() => itself.log(), { timeout: 20_000 }).toContain('the OTLP endpoint is this very Spantrail');
  });
});
