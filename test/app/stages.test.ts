import { expect, it } from 'vitest';
import { openStages, type StageLog, type Stages } from '../../src/app/stages.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { makeTrace } from '../e2e/clinic-evidence.ts';
import { entryOf } from '../fixtures/journal.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const SOURCE = { transport: 'http', peer: '10.0.0.1', browser: false } as const;

async function open(
  disk: MemoryDisk,
  store: MemoryStore,
  { segmentBytes = 67_108_864, indexBytesMax = 536_870_912, told = () => undefined as unknown } = {},
) {
  let nowMs = 1_790_000_000_000;
  const lines: string[] = [];
  const errors: string[] = [];
  const log: StageLog = {
    info(_, message) {
      lines.push(message);
      told();
    },
    warn: () => undefined,
    error: (_, message) => errors.push(message),
  };
  const parsed = settingsSchema.parse({ wal: { reserveBytes: 0, freeBytesMin: 0 }, store: { type: 'memory' } });
  const settings = { ...parsed, wal: { ...parsed.wal, segmentBytes }, join: { ...parsed.join, indexBytesMax } };
  const counters = new Counters();
  // Half a second passes each time that somebody looks at the clock.
  const clock = { nowMs: () => (nowMs += 500) };
  return { stages: await openStages({ settings, folder: '/data', disk, clock, store, counters, log }), lines, errors };
}

it('evidence is accepted while the write-ahead log is replayed, and how far that is is told', async () => {
  const disk = new MemoryDisk();
  const store = new MemoryStore();
  const traces = Array.from({ length: 600 }, (_, number) => makeTrace(number, 1_790_000_000_000));
  const first = await open(disk, store);
  // Nobody joins what it accepts.
  for (const { payload } of traces.slice(0, 500)) {
    expect(await first.stages.admit('traces', payload, SOURCE)).toMatchObject({ kind: 'accepted' });
  }
  await first.stages.close();

  const { stages, lines } = await open(disk, store);
  const joining = stages.startJoining();
  for (const { payload } of traces.slice(500)) {
    expect(await stages.admit('traces', payload, SOURCE)).toMatchObject({ kind: 'accepted' });
  }
  await joining;
  expect(lines.filter((line) => /^write-ahead log: \d+ % replayed/.test(line)).length).toBeGreaterThan(100);
  await stages.state.pump?.settleAll();
  const status = await stages.state.pump?.refreshStatus();
  expect(status?.sums.map(({ of, difference }) => [of, difference])).toEqual(
    ['traces', 'logs', 'metrics', 'records'].map((of) => [of, 0]),
  );
  expect(status?.sums[0]).toMatchObject({ accepted: 1200, used: 1200, pending: 0 });
  expect(status?.sums[3]).toMatchObject({ settled: 1200, stored: 1200 });
  await stages.drain();
  await stages.close();

  const third = await open(disk, store);
  await third.stages.startJoining();
  expect((await third.stages.state.pump?.refreshStatus())?.sums).toEqual(status?.sums);
  await third.stages.drain();
  await third.stages.close();
});

it('senders wait when the index takes too much memory, also while the write-ahead log is replayed', async () => {
  const disk = new MemoryDisk();
  const store = new MemoryStore();
  const first = await open(disk, store);
  for (let number = 0; number < 500; number++) {
    await first.stages.admit('traces', makeTrace(number, 1_790_000_000_000).payload, SOURCE);
  }
  await first.stages.close();
  const refused: boolean[] = [];
  const told = () => refused.push(second.stages.budget().refuse);
  const second = await open(disk, store, { indexBytesMax: 8192, told });
  expect(second.stages.budget().refuse).toBe(false);
  await second.stages.startJoining();
  expect(new Set(refused)).toEqual(new Set([false, true]));
  await second.stages.state.pump?.settleAll();
  await second.stages.state.pump?.refreshStatus();
  await second.stages.drain();
  await second.stages.close();
});

it.each([
  ['all segments', 0, 'lost+found'],
  ['all segments, and a repair kept one aside', 0, '0000000001.wal.damaged'],
  ['the newest segments', 2, 'note.txt'],
])('numbers of the write-ahead log never come again: %s are gone', async (_, kept, strange) => {
  const disk = new MemoryDisk();
  const store = new MemoryStore();
  const nowMs = 1_790_000_000_000;
  const traces = Array.from({ length: 50 }, (_, number) => makeTrace(number, nowMs));
  const admitAll = async (stages: Awaited<ReturnType<typeof open>>['stages'], some: typeof traces) => {
    for (const { payload } of some) {
      expect(await stages.admit('traces', payload, SOURCE)).toMatchObject({ kind: 'accepted' });
    }
  };
  const first = await open(disk, store, { segmentBytes: 4096 });
  await first.stages.startJoining();
  await admitAll(first.stages, traces.slice(0, 40));
  await first.stages.state.pump?.settleAll();
  await first.stages.drain();
  await first.stages.close();
  expect(first.errors).toEqual([]);
  const names = await disk.list('/data/wal');
  for (const name of names.slice(kept)) await disk.unlink(`/data/wal/${name}`);
  disk.plant(`/data/wal/${strange}`, Buffer.from('x'));

  const second = await open(disk, store, { segmentBytes: 4096 });
  expect(second.errors).toEqual([expect.stringContaining(`segments ${kept + 1} to ${names.length} are missing`)]);
  await second.stages.startJoining();
  await admitAll(second.stages, traces.slice(40));
  expect(second.stages.wal.segments().at(kept)?.segment).toBe(names.length + 1);
  await second.stages.close();

  const third = await open(disk, store, { segmentBytes: 4096 });
  expect(third.errors).toEqual([]);
  await third.stages.startJoining();
  await third.stages.state.pump?.settleAll();
  for (const { traceId } of traces.slice(40)) expect(await store.trace(traceId)).not.toEqual([]);
  await third.stages.drain();
  await third.stages.close();
});

it.each<[string, (stages: Stages) => Promise<unknown>]>([
  ['settle journal', ({ journal }) => journal.append([entryOf({ settledAtMs: 1 })])],
  ['quarantine', ({ quarantine }) => quarantine.add([{ stage: 'store', reason: 'refused', id: 'a', body: {} }])],
])('a full disk that only the %s meets is noticed', async (_, write) => {
  const disk = new MemoryDisk();
  const { stages } = await open(disk, new MemoryStore());
  disk.capacityBytes = 0;
  await expect(write(stages)).rejects.toMatchObject({ code: 'unavailable' });
  expect(stages.diskSpace.status().isShort).toBe(true);
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  await write(stages);
  await stages.close();
});
