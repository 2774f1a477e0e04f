import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Readiness } from '../../src/api/readiness.ts';
import { createApi } from '../../src/api/server.ts';
import { createReadiness } from '../../src/app/readiness.ts';
import { Counters } from '../../src/core/metrics.ts';
import { makeTrace } from '../e2e/clinic-evidence.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { runProgram } from '../setup/cache.ts';
import { apiNeeds } from './needs.ts';

const WELL: Readiness = { stopping: false, refusing: [], bufferingShare: undefined, replaying: false };

describe('GET /readyz', () => {
  it.each<{ found: Partial<Readiness>; status: number; text: RegExp }>([
    { found: {}, status: 200, text: /^ready\n$/ },
    { found: { replaying: true }, status: 200, text: /^replaying: .*\n$/ },
    { found: { bufferingShare: 0.129 }, status: 200, text: /^store unreachable, buffering \(12 %\)\n$/ },
    { found: { bufferingShare: 1.2, replaying: true }, status: 200, text: /^store .*\(100 %\)\nreplaying: .*\n$/ },
    { found: { refusing: ['disk'] }, status: 503, text: /^refusing: the disk is nearly full.*\n$/ },
    {
      found: { refusing: ['budget', 'memory'], bufferingShare: 1 },
      status: 503,
      text: /^refusing: .*wal\.unsettledBytesMax.*\nrefusing: memory.*\nstore unreachable, buffering \(100 %\)\n$/,
    },
    { found: { stopping: true }, status: 503, text: /^stopping\n$/ },
  ])('answers $status for $found', async ({ found, status, text }) => {
    const api = createApi(apiNeeds({ readiness: () => ({ ...WELL, ...found }) }));
    const answer = await api.inject({ method: 'GET', url: '/readyz' });
    await api.close();
    expect(answer.statusCode).toBe(status);
    expect(answer.body).toMatch(text);
    expect(answer.headers['retry-after']).toBe(status === 503 ? '5' : undefined);
  });
});

describe('what is told', () => {
  it('is what came since the start until the replay is over, and what the store says from then on', () => {
    const counters = new Counters();
    const state = { pump: undefined, replaying: true, replayIndexBytes: 0, stopping: false };
    let failure: string | undefined = 'it has not answered yet';
    const readiness = createReadiness({
      stages: { state, budget: () => ({ refuse: false, retryAfterMs: 0, reasons: [] }), unsettledBytes: () => 250 },
      setUp: { failure: () => failure },
      unsettledBytesMax: 1000,
      counters,
    });
    const gauges = () => ['replaying', 'store_failing'].map((name) => counters.total(name as 'replaying'));
    expect(readiness()).toEqual({ ...WELL, replaying: true, bufferingShare: 0.25 });
    expect(gauges()).toEqual([1, 1]);
    failure = undefined;
    state.replaying = false;
    expect(readiness()).toEqual(WELL);
    expect(gauges()).toEqual([0, 0]);
    expect(counters.total('wal_unsettled_bytes_max')).toBe(1000);
  });
});

describe('a real Spantrail whose store is away', () => {
  let running: RunningProcess | undefined;
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-ready-'));
  afterEach(async () => {
    await running?.stop('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it('buffers and is ready, then refuses and is not, and says so in its metrics', async () => {
    const spantrail = await startProcess(
      // Nothing listens on port 1.
      ['--data-dir', folder, '--elasticsearch-url', 'http://127.0.0.1:1'],
      { SPANTRAIL_WAL_UNSETTLED_BYTES_MAX: '16KiB' },
    );
    running = spantrail;
    const ask = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${spantrail.api}${path}`);
      return `${answer.status} ${await answer.text()}`;
    };
    const buffering = /^200 store unreachable, buffering \(\d+ %\)\n$/;
    await expect.poll(() => ask('/readyz'), { timeout: 60_000 }).toMatch(buffering);
    for (let trace = 0; (await spantrail.send('traces', makeTrace(trace).payload)) === 200; trace++);
    await expect.poll(() => ask('/readyz'), { timeout: 60_000 }).toMatch(/^503 refusing: .*\nstore .*\(100 %\)\n$/);
    const metrics = await ask('/metrics');
    expect(metrics).toMatch(/^spantrail_refusing\{reason="budget".*\} 1$/m);
    expect(metrics).toMatch(/^spantrail_refusing\{reason="disk".*\} 0$/m);
    expect(metrics).toMatch(/^spantrail_store_failing.* 1$/m);
    expect(metrics).toMatch(/^spantrail_wal_unsettled_bytes_max.* 16384$/m);
    const doctor = ['src/cli/spantrail.mjs', 'doctor', '--url', `http://127.0.0.1:${spantrail.api}`];
    const refused = runProgram(process.execPath, doctor);
    await expect(refused).rejects.toThrow(
      /ingest is refused: the budget of unstored evidence \(wal\.unsettledBytesMax\)/,
    );
  });
});
