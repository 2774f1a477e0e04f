import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { explicitEvent, makeTrace, makeTraces, type Trace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

let folder: string;
let running: RunningProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const start = async (environment: Record<string, string> = {}, ...more: string[]) => {
  running = await startProcess(['--data-dir', join(folder, 'data'), ...more], environment);
  return running;
};

function expectEveryRecordOnce(
  records: readonly { trace?: { id: string }; event: { id: string } }[],
  traces: readonly Trace[],
) {
  const byTrace = Map.groupBy(records, (record) => record.trace?.id);
  for (const { traceId } of traces) expect(byTrace.get(traceId)?.length, `records of trace ${traceId}`).toBe(2);
  expect(new Set(records.map((record) => record.event.id)).size).toBe(records.length);
}

describe('a process killed after its acknowledgements', () => {
  it.each([{ workers: '1' }, { workers: '2' }])(
    'has every record after a restart ($workers workers)',
    async ({ workers }) => {
      const acknowledged: Trace[] = [];
      const first = await start({ SPANTRAIL_WORKERS: workers });
      for (const trace of makeTraces(40))
        if ((await first.send('traces', trace.payload)) === 200) acknowledged.push(trace);
      // Some are stored by now, some settled and not stored, some only in the write-ahead log.
      const lastOnes = makeTraces(40);
      await Promise.all(
        lastOnes.map(async (trace) => {
          if ((await first.send('traces', trace.payload)) === 200) acknowledged.push(trace);
        }),
      );
      await first.stop('SIGKILL');
      expect(acknowledged).toHaveLength(80);

      const second = await start({ SPANTRAIL_WORKERS: workers });
      await second.settled();
      expectEveryRecordOnce(await second.search(''), acknowledged);
      const { sums } = await second.pipeline();
      // A third start finds everything stored and writes nothing again.
      expect(await second.stop()).toBe(0);
      const third = await start({ SPANTRAIL_WORKERS: workers });
      await third.settled();
      expect((await third.pipeline()).sums).toEqual(sums);
      expectEveryRecordOnce(await third.search(''), acknowledged);
    },
  );
});

describe('the same evidence again', () => {
  it('changes nothing, also after a restart', async () => {
    const traces = makeTraces(5);
    const first = await start();
    for (const { payload } of traces) await first.send('traces', payload);
    await first.settled();
    const before = await first.search('');
    for (const { payload } of traces) await first.send('traces', payload);
    await first.settled();
    expect(await first.search('')).toEqual(before);
    await first.stop('SIGKILL');
    const second = await start();
    for (const { payload } of traces) await second.send('traces', payload);
    await second.settled();
    expect(await second.search('')).toEqual(before);
  });
});

describe('late evidence', () => {
  it('makes a new revision of the record, and the earlier one is kept', async () => {
    const trace = makeTrace(0);
    const spantrail = await start();
    await spantrail.send('traces', trace.payload);
    await spantrail.settled();
    await spantrail.stop('SIGKILL');
    const again = await start();
    expect(await again.send('logs', explicitEvent(trace))).toBe(200);
    await again.settled();
    const [record, ...others] = await again.search('audit.entry: true');
    expect(others).toEqual([]);
    expect(record?.event.action).toBe('open-chart');
    expect(record?.audit).toMatchObject({
      revision: 2,
      supersedes: 1,
      purpose: 'treatment',
      join: { late: true, reason: 'late' },
    });
    const response = await fetch(`http://127.0.0.1:${again.api}/api/v1/records/${record?.event.id}/revisions`);
    const { revisions } = (await response.json()) as { revisions: { event: { action: string } }[] };
    expect(revisions.map((revision) => revision.event.action)).toEqual(['GET', 'open-chart']);
  });
});

describe('starting', () => {
  it('keeps the data folder to its owner', async () => {
    await start();
    expect(statSync(join(folder, 'data')).mode & 0o777).toBe(0o700);
  });

  it('refuses a folder that is in use, in one line and with its exit code', async () => {
    const first = await start();
    const second = startProcess(['--data-dir', join(folder, 'data')]);
    await expect(second).rejects.toThrow(new RegExp(`ended with 1 .*in use by process ${first.process.pid}`, 's'));
    await expect(second).rejects.not.toThrow(/at .*\.ts:\d+/);
  });

  it('says which port is taken, how to choose another, and the line for the Collector', async () => {
    const first = await start();
    const second = startProcess(['--data-dir', join(folder, 'other'), '--grpc-port', String(first.grpc)]);
    await expect(second).rejects.toThrow(/ended with 2/);
    await expect(second).rejects.toThrow(new RegExp(`port ${first.grpc} is in use.*--grpc-port.*exporters:`, 's'));
  });
});
