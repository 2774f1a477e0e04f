import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TraceAnswer } from '../../src/api/contract.ts';
import { sleep } from '../bench/probe.ts';
import { contentDigest, Oracle } from '../torture/oracle.ts';
import { explicitEvent, makeTrace, makeTraces, type Trace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** Memory for next to nothing: what is a moment old is on disk alone, compressed a moment later. */
const SMALL = {
  SPANTRAIL_JOIN_INDEX_BYTES_MAX: '256KiB',
  SPANTRAIL_WAL_CACHE_BYTES_MAX: '16KiB',
  SPANTRAIL_WAL_SEGMENT_BYTES: '32KiB',
  SPANTRAIL_WAL_HORIZON_AGE_MS: '10m',
};
const OTHERS = 600;
const SECONDS_LATE = 3;

let folder: string;
let running: RunningProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-late-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function start(workers: string): Promise<RunningProcess> {
  running = await startProcess(['--data-dir', folder], { ...SMALL, SPANTRAIL_WORKERS: workers });
  return running;
}

/** Sends a trace and then many others, until nothing of the first is in memory and its segment is closed. */
async function outOfMemory(spantrail: RunningProcess, trace: Trace): Promise<void> {
  expect(await spantrail.send('traces', trace.payload)).toBe(200);
  await spantrail.settled();
  for (const other of makeTraces(OTHERS)) await spantrail.send('traces', other.payload);
  await spantrail.settled();
  await expect.poll(() => readdirSync(join(folder, 'wal')), { timeout: 60_000 }).toContain('0000000002.walz');
  await sleep(SECONDS_LATE * 1000);
}

/** The trace's accesses are what a join of all its evidence at once makes. */
async function expectComplete(spantrail: RunningProcess, trace: Trace): Promise<void> {
  const oracle = new Oracle('default');
  const sent = { what: 'whole trace', transport: 'http', round: 0 } as const;
  oracle.acknowledge({ ...sent, signal: 'traces', payload: trace.payload }, 0);
  oracle.acknowledge({ ...sent, signal: 'logs', payload: explicitEvent(trace) }, 0);
  const records = await spantrail.search(`trace.id: ${trace.traceId}`);
  expect(new Map(records.map((record) => [record.event.id, contentDigest(record)]))).toEqual(oracle.records);
  const entry = records.find((record) => record.audit.entry);
  expect(entry).toMatchObject({
    event: { action: 'open-chart' },
    audit: { purpose: 'treatment', revision: 2, join: { state: 'complete', late: true, reason: 'late' } },
  });
  const answer = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/traces/${trace.traceId}`);
  const { drawn_from, spans } = (await answer.json()) as TraceAnswer;
  expect([drawn_from, spans.length]).toEqual(['evidence', 2]);
}

describe.each(['1', '2'])('an access event seconds past memory, inside the horizon (%s workers)', (workers) => {
  it('yields the complete record', async () => {
    const spantrail = await start(workers);
    const trace = makeTrace(0);
    await outOfMemory(spantrail, trace);
    expect(await spantrail.send('logs', explicitEvent(trace))).toBe(200);
    await spantrail.settled();
    await expectComplete(spantrail, trace);
  });

  it('yields the complete record after a kill, too', async () => {
    const trace = makeTrace(0);
    const first = await start(workers);
    await outOfMemory(first, trace);
    await first.stop('SIGKILL');
    const second = await start(workers);
    expect(await second.send('logs', explicitEvent(trace))).toBe(200);
    await second.settled();
    await expectComplete(second, trace);
  });
});
