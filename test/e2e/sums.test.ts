import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EvidenceSum, PipelineAnswer, RecordSum } from '../../src/api/contract.ts';
import { encodeLogs } from '../otlp/encode.ts';
import { explicitEvent, makeTraces } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

let folder: string;
let running: RunningProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-sums-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function start(environment: Record<string, string>): Promise<RunningProcess> {
  running = await startProcess(['--data-dir', join(folder, 'data')], environment);
  return running;
}

function sumOf(pipeline: PipelineAnswer, of: 'traces' | 'logs'): EvidenceSum {
  return pipeline.sums.find((sum): sum is EvidenceSum => sum.of === of) ?? expect.fail(`no sum of ${of}`);
}

function recordsOf(pipeline: PipelineAnswer): RecordSum {
  return pipeline.sums.find((sum): sum is RecordSum => sum.of === 'records') ?? expect.fail('no sum of records');
}

function differencesOf({ sums }: PipelineAnswer): string[] {
  return sums.filter((sum) => sum.difference !== 0).map((sum) => JSON.stringify(sum));
}

/** Spans, an event of a trace, and log records that name none and are no access. Resolves with what was acknowledged. */
async function sendLoad(spantrail: RunningProcess, rounds: number, stop: () => boolean) {
  const acknowledged = { traces: 0, logs: 0 };
  const idle = encodeLogs([{ logs: [{ body: 'started' }, { body: 'still here' }, { body: 'ended' }] }]);
  const send = async (signal: 'traces' | 'logs', payload: Buffer, items: number) => {
    const status = await spantrail.send(signal, payload).catch(() => 0);
    if (status === 200) acknowledged[signal] += items;
  };
  for (let round = 0; round < rounds && !stop(); round++) {
    const traces = makeTraces(10);
    await Promise.all([
      ...traces.flatMap((trace) => [
        send('traces', trace.payload, 2),
        send('traces', trace.payload, 2),
        send('logs', explicitEvent(trace), 1),
      ]),
      send('logs', idle, 3),
    ]);
  }
  return acknowledged;
}

describe.each([{ workers: '1' }, { workers: '2' }])('the sums with $workers workers', ({ workers }) => {
  it('are without a difference at any moment under load, after a kill, and go on from where they were', async () => {
    const environment = { SPANTRAIL_WORKERS: workers };
    const first = await start(environment);
    let isOver = false;
    const load = sendLoad(first, 400, () => isOver);
    // Until the threads have started there is nothing to add up.
    while ((await first.pipeline()).sums.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    let looks = 0;
    for (const endMs = performance.now() + 3000; performance.now() < endMs; looks++) {
      expect(differencesOf(await first.pipeline())).toEqual([]);
    }
    expect(looks).toBeGreaterThan(3);
    const before = await first.pipeline();
    await first.stop('SIGKILL');
    isOver = true;
    const acknowledged = await load;
    expect(sumOf(before, 'traces').accepted).toBeGreaterThan(0);

    const second = await start(environment);
    await second.settled();
    const after = await second.pipeline();
    expect(differencesOf(after)).toEqual([]);
    for (const signal of ['traces', 'logs'] as const) {
      const sum = sumOf(after, signal);
      expect(sum.accepted).toBeGreaterThanOrEqual(Math.max(acknowledged[signal], sumOf(before, signal).accepted));
      for (const use of ['used', 'context', 'duplicate'] as const)
        expect(sum[use], use).toBeGreaterThanOrEqual(sumOf(before, signal)[use]);
      expect(sum).toMatchObject({ pending: 0, quarantined: 0 });
    }
    expect(recordsOf(after).stored).toBeGreaterThanOrEqual(recordsOf(before).stored);
    expect(recordsOf(after).pending).toBe(0);

    await sendLoad(second, 2, () => false);
    await second.settled();
    const later = await second.pipeline();
    expect(sumOf(later, 'logs').accepted).toBe(sumOf(after, 'logs').accepted + 2 * 13);
    expect(differencesOf(later)).toEqual([]);
    expect(await second.stop()).toBe(0);

    // After a clean stop the next start reads nothing again, and says the same.
    const third = await start(environment);
    await third.settled();
    expect((await third.pipeline()).sums).toEqual(later.sums);
    const metrics = await (await fetch(`http://127.0.0.1:${third.api}/metrics`)).text();
    expect(metrics).toMatch(/^spantrail_unaccounted\{.*of="traces".*\} 0/m);
  });
});
