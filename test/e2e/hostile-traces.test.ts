import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { TraceAnswer } from '../../src/api/contract.ts';
import { makeTrace } from './clinic-evidence.ts';
import { hugeSpanId, type Load, peakMiB, sendLoad } from './huge-load.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/**
 * Traces of a shape that nobody planned for, against a real process, while another sender's traces go on. How large they are is
 * set by SPANTRAIL_HOSTILE_SPANS and SPANTRAIL_HOSTILE_TRACES; a million of each:
 *
 *   SPANTRAIL_HOSTILE_SPANS=1000000 SPANTRAIL_HOSTILE_TRACES=1000000 npx vitest run test/e2e/hostile-traces.test.ts
 */
const SPANS = Number(process.env['SPANTRAIL_HOSTILE_SPANS'] ?? 60_000);
const TRACES = Number(process.env['SPANTRAIL_HOSTILE_TRACES'] ?? 20_000);
const TIMEOUT_MS = 120_000 + SPANS / 2 + TRACES / 2;

const START_NS = BigInt(Date.now() - 60_000) * 1_000_000n;
const common = { count: SPANS, accessEvery: 1000, perRequest: 4000, startNs: START_NS };

let folder: string;
let running: RunningProcess;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-hostile-'));
  running = await startProcess(['--store', 'duckdb', '--data-dir', folder]);
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** Sends small traces until told to stop; then the ids of those that were acknowledged, and how long that took. */
function otherSender() {
  const sent: string[] = [];
  const waitsMs: number[] = [];
  let isOver = false;
  const run = async () => {
    while (!isOver) {
      const trace = makeTrace(sent.length);
      const beganMs = performance.now();
      expect(await running.send('traces', trace.payload)).toBe(200);
      waitsMs.push(performance.now() - beganMs);
      sent.push(trace.traceId);
      await sleep(50);
    }
  };
  const running_ = run();
  return {
    sent,
    stop: async () => {
      isOver = true;
      await running_;
      return waitsMs.sort((a, b) => a - b);
    },
  };
}

async function until<T>(read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await read();
    if (isDone(value)) return value;
    await sleep(100);
  }
}

async function expectSums(evidence: number, records: number): Promise<void> {
  await running.settled();
  const { sums } = await running.pipeline();
  expect(sums).toMatchObject([
    { of: 'traces', accepted: evidence, pending: 0, duplicate: 0, quarantined: 0, difference: 0 },
    { of: 'logs', difference: 0 },
    { of: 'metrics', difference: 0 },
    { of: 'records', difference: 0 },
  ]);
  const { buckets } = (await (await fetch(`http://127.0.0.1:${running.api}/api/v1/histogram?inner=true`)).json()) as {
    buckets: { count: number }[];
  };
  expect(buckets.reduce((sum, { count }) => sum + count, 0)).toBe(records);
}

const traceIdOf = (number: number) => `${'7'.repeat(16)}${hugeSpanId(number)}`;
const recordsOf = (traceId: string) => running.search(`trace.id: ${traceId}`);

it(
  `one trace of ${SPANS} spans: every access has its record, counts are exact, and others go on`,
  async () => {
    const traceId = randomBytes(16).toString('hex');
    const other = otherSender();
    const beganMs = performance.now();
    const idsOf: Load['idsOf'] = (number) => ({
      ...{ traceId, span: number },
      parent: number === 0 ? -1 : Math.floor((number - 1) / 3),
    });
    await sendLoad(running, { ...common, idsOf });
    const acknowledgedMs = performance.now() - beganMs;
    // Of another sender, sent while the trace is worked on.
    const meanwhile = makeTrace(1_000_000);
    expect(await running.send('traces', meanwhile.payload)).toBe(200);
    await until(
      () => recordsOf(meanwhile.traceId),
      (found) => found.length === 2,
    );
    const records = await until(
      () => recordsOf(traceId),
      (found) => found[0]?.audit.trace?.span_count === SPANS && found.length === SPANS / 1000,
    );
    const settledMs = performance.now() - beganMs;
    const waits = await other.stop();
    for (const { audit, transaction } of records) {
      expect(audit.join).toMatchObject({ state: 'complete', spans: 10_000, missing_parents: 0, orphans: 0 });
      expect(audit.trace).toMatchObject({ span_count: SPANS, error_count: 0, services: ['batch'] });
      expect(transaction?.id).toBe(hugeSpanId(0));
      expect(audit.path?.[0]?.span_id).toBe(hugeSpanId(0));
    }
    expect(records.filter(({ audit }) => audit.entry)).toHaveLength(1);
    const drawn = (await (
      await fetch(`http://127.0.0.1:${running.api}/api/v1/traces/${traceId}`)
    ).json()) as TraceAnswer;
    expect(drawn.spans.length).toBeLessThanOrEqual(10_000);
    await expectSums(SPANS + 2 * other.sent.length + 2, records.length + 2 * other.sent.length + 2);
    expect(running.log()).not.toMatch(/"level":(50|60)/);
    const at = (share: number) => Math.round(waits[Math.floor((waits.length - 1) * share)] ?? 0);
    console.log(
      `${SPANS} spans of one trace: acknowledged after ${Math.round(acknowledgedMs)} ms, all records after ${Math.round(settledMs)} ms, ` +
        `peak memory ${peakMiB(running)} MiB; ${other.sent.length} other traces acknowledged within ${at(0.5)} ms (p50), ${at(0.99)} ms (p99)`,
    );
  },
  TIMEOUT_MS,
);

it(
  `${TRACES} traces of one span: each its record`,
  async () => {
    const other = otherSender();
    const beganMs = performance.now();
    const idsOf: Load['idsOf'] = (number) => ({
      ...{ traceId: traceIdOf(number), span: number, parent: -1 },
    });
    await sendLoad(running, { ...common, count: TRACES, accessEvery: 1, perRequest: 2000, idsOf });
    const acknowledgedMs = performance.now() - beganMs;
    await other.stop();
    const all = TRACES + 2 * other.sent.length;
    await expectSums(all, all);
    const [record, ...more] = await recordsOf(traceIdOf(0));
    expect(more).toEqual([]);
    expect(record?.audit.join).toMatchObject({ state: 'complete', spans: 1 });
    console.log(
      `${TRACES} traces of one span: acknowledged after ${Math.round(acknowledgedMs)} ms, all records after ` +
        `${Math.round(performance.now() - beganMs)} ms, peak memory ${peakMiB(running)} MiB`,
    );
  },
  TIMEOUT_MS,
);

it('12,000 spans in a circle, the twelfth of them accesses: each its record, one link is cut, which is told', async () => {
  const traceId = randomBytes(16).toString('hex');
  const count = 12_000;
  const idsOf: Load['idsOf'] = (number) => ({ traceId, span: number, parent: (number + 1) % count });
  await sendLoad(running, { ...common, count, perRequest: 3000, accessEvery: 100, idsOf });
  const records = await until(
    () => recordsOf(traceId),
    (found) => found.length === 120 && found[0]?.audit.trace?.span_count === count,
  );
  for (const { audit } of records) {
    expect(audit.join.state).toBe('partial');
    expect(audit.join.conflicts?.join()).toContain('is its own ancestor');
  }
  expect(records.filter(({ audit }) => audit.entry)).toHaveLength(1);
  await expectSums(count, 120);
});
