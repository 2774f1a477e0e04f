import { expect, it } from 'vitest';
import { replayInto } from '../../src/app/replay.ts';
import { Sums } from '../../src/app/sums.ts';
import { systemClock } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { JoinStats } from '../../src/join/join-stats.ts';
import type { ShardHandle } from '../../src/join/shard-handle.ts';
import type { SettleJournal } from '../../src/wal/settle-journal.ts';
import { entryOf } from '../fixtures/journal.ts';
import { traceIdOf } from '../join/world.ts';

it('the shards are waited for while the journal is replayed, too', async () => {
  let waiting = 0;
  let waitingMax = 0;
  const shard: Pick<ShardHandle, 'restore' | 'stats' | 'dropBefore' | 'endReplay'> = {
    restore() {
      waiting++;
      waitingMax = Math.max(waitingMax, waiting);
    },
    async stats() {
      await new Promise((resolve) => setTimeout(resolve, 1));
      waiting = 0;
      return { indexBytes: 70 } as JoinStats;
    },
    dropBefore: async () => undefined,
    endReplay: async () => undefined,
  };
  const journal: Pick<SettleJournal, 'replayHeads' | 'read' | 'bytes' | 'firstSegment'> = {
    bytes: 0,
    firstSegment: 1,
    read: () => expect.fail('nothing is left to count'),
    async replayHeads(visit, { visitMark } = {}) {
      const entry = entryOf({ traceId: traceIdOf(1) });
      for (let offset = 0; offset < 2000; offset++) await visit(entry, { segment: 1, offset });
      await visitMark?.({ atMs: 0, storedBefore: 0, acceptedThrough: { segment: 0, offset: 0 }, totals: [] });
      return { entries: 2000, bytes: 0 };
    },
  };
  const wal = { segments: () => [], replay: async () => ({ frames: 0, bytes: 0 }) };
  const parts = { shards: [shard as ShardHandle], journal, wal, sums: new Sums(new Counters()) };
  const log = { info: () => undefined };
  const noted: number[] = [];
  const noteIndexBytes = (bytes: number) => void noted.push(bytes);
  expect(await replayInto({ ...parts, clock: systemClock, log, noteIndexBytes })).toMatchObject({ entries: 2000 });
  expect(waitingMax).toBeLessThanOrEqual(256);
  expect(noted).toEqual(Array.from({ length: 7 }, () => 70));
});
