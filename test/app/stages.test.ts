import { expect, it } from 'vitest';
import { openStages, type StageLog } from '../../src/app/stages.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { makeTrace } from '../e2e/clinic-evidence.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const SOURCE = { transport: 'http', peer: '10.0.0.1', browser: false } as const;

async function open(disk: MemoryDisk, store: MemoryStore) {
  let nowMs = 1_790_000_000_000;
  const lines: string[] = [];
  const log: StageLog = { info: (_, message) => lines.push(message), warn: () => undefined, error: () => undefined };
  const settings = settingsSchema.parse({ wal: { reserveBytes: 0, freeBytesMin: 0 }, store: { type: 'memory' } });
  const counters = new Counters();
  // Half a second passes each time that somebody looks at the clock.
  const clock = { nowMs: () => (nowMs += 500) };
  return { stages: await openStages({ settings, folder: '/data', disk, clock, store, counters, log }), lines };
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
