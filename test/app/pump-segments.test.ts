import { describe, expect, it } from 'vitest';
import { dropStored } from '../../src/app/pump-segments.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { JoinStats } from '../../src/join/join-stats.ts';
import type { ShardHandle } from '../../src/join/shard-handle.ts';
import type { DiskSpaceStatus } from '../../src/wal/disk-space.ts';
import { FOLDER, frameOf, openWal } from '../wal/helpers.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const START_MS = 1_790_000_000_000;
const SECOND_MS = 1000;

/**
 * A log of segments of 1000 bytes, a second apart, and what lets them go. A process that was killed when it had created
 * segment `unborn` left the file without a byte.
 */
async function house(segments: number, { unborn }: { unborn?: number } = {}) {
  const disk = new MemoryDisk();
  const clock = { ms: START_MS, nowMs: () => clock.ms };
  const open = () => openWal(disk, { segmentBytes: 1000, clock, segmentAgeMs: 20 * SECOND_MS });
  let { wal } = await open();
  const frameAt = (receivedMs: number) => {
    const frame = frameOf(1, 800);
    return { ...frame, note: { ...frame.note, receivedNs: BigInt(receivedMs) * 1_000_000n } };
  };
  for (let second = 0; second < segments; second += 1) {
    await wal.append(frameAt(START_MS + second * SECOND_MS));
    clock.ms += SECOND_MS;
    if (second + 2 !== unborn) continue;
    await wal.close();
    disk.plant(`${FOLDER}/${String(unborn).padStart(10, '0')}.wal`, Buffer.alloc(0));
    ({ wal } = await open());
  }
  const pending = new Set<number>();
  const droppedBefore: number[] = [];
  const journalDrops: number[] = [];
  const space: { -readonly [key in keyof DiskSpaceStatus]: DiskSpaceStatus[key] } = {
    freeBytes: 1e9,
    isShort: false,
    missingBytes: 0,
  };
  const shard = { dropBefore: async (segment: number) => void droppedBefore.push(segment) };
  const parts = {
    shards: [shard as unknown as ShardHandle],
    wal,
    journal: { bytes: 500, firstSegment: 1, dropBefore: async (ms: number) => void journalDrops.push(ms) },
    clock,
    counters: new Counters(),
    sums: { markedBefore: Number.POSITIVE_INFINITY },
    diskSpace: { status: () => space },
    settings: { horizonAgeMs: 3600 * SECOND_MS, horizonBytesMax: 1e9 },
  };
  const look = async (settings: Partial<typeof parts.settings> = {}) => {
    const stats = { segments: new Map([...pending].map((segment) => [segment, { pending: 1 }])) };
    const withSettings = { ...parts, settings: { ...parts.settings, ...settings } };
    await dropStored(withSettings, wal.segments(), [stats as unknown as JoinStats]);
    return wal.segments().map(({ segment }) => segment);
  };
  return {
    disk,
    clock,
    wal,
    pending,
    droppedBefore,
    journalDrops,
    space,
    counters: parts.counters,
    sums: parts.sums,
    look,
    frameAt,
  };
}

describe('stored segments', () => {
  it('stay, though the index holds nothing of them', async () => {
    const { look } = await house(4);
    expect(await look()).toEqual([1, 2, 3, 4]);
  });

  it('stay until a mark in the journal says that a restart need not read them', async () => {
    const { look, sums } = await house(4);
    sums.markedBefore = 2;
    expect(await look({ horizonBytesMax: 0 })).toEqual([2, 3, 4]);
    sums.markedBefore = 4;
    expect(await look({ horizonBytesMax: 0 })).toEqual([4]);
  });

  it.each([3, 4])('stay when a kill left one after them without a byte (segment %i)', async (unborn) => {
    const { look, wal } = await house(4, { unborn });
    expect(await look({ horizonAgeMs: 60 * SECOND_MS })).toEqual([1, 2, 3, 4, 5]);
    for (const { firstReceivedNs } of wal.segments()) {
      expect(firstReceivedNs).toBeGreaterThanOrEqual(BigInt(START_MS) * 1_000_000n);
    }
    expect(await look({ horizonAgeMs: 0.5 * SECOND_MS })).toEqual([5]);
  });

  it('go oldest first when they are older than the horizon, and the journal’s entries with them', async () => {
    const { look, droppedBefore, journalDrops, counters } = await house(5);
    expect(await look({ horizonAgeMs: 3.5 * SECOND_MS })).toEqual([3, 4, 5]);
    expect(droppedBefore).toEqual([2, 3, 3]);
    expect(journalDrops).toEqual([START_MS + 2 * SECOND_MS]);
    expect(counters.total('evicted', { reason: 'age' })).toBeGreaterThan(1600);
  });

  it('go when they take too much, the journal included', async () => {
    const { look, wal } = await house(5);
    const [{ bytes } = { bytes: 0 }] = wal.segments();
    expect(await look({ horizonBytesMax: 5 * bytes + 500 })).toEqual([1, 2, 3, 4, 5]);
    expect(await look({ horizonBytesMax: 5 * bytes + 499 })).toEqual([2, 3, 4, 5]);
    expect(await look({ horizonBytesMax: 0 })).toEqual([5]);
  });

  it('go when the disk is short, as many as are missing', async () => {
    const { look, space, wal, counters } = await house(5);
    const [{ bytes } = { bytes: 0 }] = wal.segments();
    Object.assign(space, { isShort: true, missingBytes: bytes + 1 });
    expect(await look()).toEqual([3, 4, 5]);
    expect(counters.total('evicted', { reason: 'space' })).toBe(2 * bytes);
  });

  it('never go before one that is not stored', async () => {
    const { look, pending, space } = await house(5);
    Object.assign(space, { isShort: true, missingBytes: 1e9 });
    pending.add(3);
    expect(await look({ horizonAgeMs: 0, horizonBytesMax: 0 })).toEqual([3, 4, 5]);
    pending.clear();
    expect(await look()).toEqual([5]);
  });

  it('age out of a system in which nothing happens any more', async () => {
    const { look, clock, wal, disk } = await house(2);
    clock.ms += 60 * SECOND_MS;
    expect(await look({ horizonAgeMs: 30 * SECOND_MS })).toEqual([2, 3]);
    expect(wal.segments().at(-1)?.bytes).toBe(32);
    expect(await look({ horizonAgeMs: 30 * SECOND_MS })).toEqual([3]);
    clock.ms += 3600 * SECOND_MS;
    expect(await look({ horizonAgeMs: 30 * SECOND_MS })).toEqual([3]);
    await wal.close();
    const again = await openWal(disk);
    expect((await again.wal.append(frameOf(1))).segment).toBe(4);
  });

  it('age out after the clock was ahead for a while', async () => {
    const { look, clock, wal, frameAt } = await house(2);
    const year = 365 * 86_400 * SECOND_MS;
    await wal.append(frameAt(clock.ms + year));
    for (const after of [1, 2, 3]) await wal.append(frameAt(clock.ms + after * SECOND_MS));
    clock.ms += 100 * SECOND_MS;
    expect(await look({ horizonAgeMs: 50 * SECOND_MS })).toEqual([6, 7]);
  });
});
