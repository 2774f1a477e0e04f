import { type Clock, nsToMs } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import type { JoinStats } from '../join/join-stats.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import type { DiskSpaceStatus } from '../wal/disk-space.ts';
import { HEADER_BYTES } from '../wal/segment-format.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import type { Sums } from './sums.ts';

type Segments = ReturnType<Wal['segments']>;

interface Parts {
  readonly shards: readonly ShardHandle[];
  readonly wal: Pick<Wal, 'segments' | 'drop' | 'sealAged'>;
  readonly journal: Pick<SettleJournal, 'dropBefore' | 'bytes' | 'firstSegment'>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly sums: Pick<Sums, 'markedBefore'>;
  /** Absent: there is always room. */
  readonly diskSpace?: { status(): DiskSpaceStatus };
  readonly settings: {
    readonly horizonAgeMs: number;
    readonly horizonBytesMax: number;
  };
}

/**
 * Looks after segments whose evidence is all stored, which are kept for late evidence to join. Oldest first they go when
 * they are older than the horizon, when what is kept for it (with the journal) takes too much disk, or when the disk is
 * short: that is what the horizon is for, so that no healthy sender is refused for it.
 */
export async function dropStored(parts: Parts, segments: Segments, stats: readonly JoinStats[]): Promise<void> {
  const isStored = (segment: number) => stats.every((shard) => (shard.segments.get(segment)?.pending ?? 0) === 0);
  const dropped = await evict(parts, segments, isStored);
  await parts.wal.sealAged();
  if (dropped > 0) await forgetBefore(parts);
}

/** Answers how many segments went. */
async function evict(parts: Parts, segments: Segments, isStored: (segment: number) => boolean): Promise<number> {
  const { shards, wal, journal, clock, counters, sums, diskSpace, settings } = parts;
  const oldestAllowedMs = clock.nowMs() - settings.horizonAgeMs;
  const endsMs = latestTimes(segments);
  let keptBytes = segments.reduce((sum, { segment, bytes }) => sum + (isStored(segment) ? bytes : 0), journal.bytes);
  let missingBytes = diskSpace?.status().missingBytes ?? 0;
  let dropped = 0;
  // The newest stays, so that numbers are never used twice.
  for (const [index, { segment, bytes, sealed }] of segments.slice(0, -1).entries()) {
    if (!sealed || !isStored(segment) || segment >= sums.markedBefore) break;
    const isOld = (endsMs[dropped] ?? oldestAllowedMs) < oldestAllowedMs;
    const isTooMuch = keptBytes > settings.horizonBytesMax;
    if (!isOld && !isTooMuch && missingBytes <= 0) break;
    const receivedMs = nsToMs(segments[index + 1]?.firstReceivedNs ?? 0n);
    await Promise.all(shards.map((shard) => shard.dropBefore(segment + 1, journal.firstSegment, receivedMs)));
    await wal.drop(segment);
    counters.add('evicted', bytes, { reason: isOld ? 'age' : isTooMuch ? 'bytes' : 'space' });
    keptBytes -= bytes;
    missingBytes -= bytes;
    dropped++;
  }
  return dropped;
}

/** What the journal knows of traces that were settled before the oldest evidence left was received is of no use any more. */
async function forgetBefore({ shards, wal, journal }: Parts): Promise<void> {
  const [oldest] = wal.segments();
  if (oldest === undefined) return;
  const receivedMs = nsToMs(oldest.firstReceivedNs);
  await journal.dropBefore(receivedMs, oldest.segment);
  await Promise.all(shards.map((shard) => shard.dropBefore(oldest.segment, journal.firstSegment, receivedMs)));
}

/**
 * Up to when a segment was received, epoch milliseconds. Segments follow one another in time, so one that seems to end after
 * the next one was written while the clock was ahead.
 */
function latestTimes(segments: Segments): number[] {
  // One without an entry has no times of its own.
  const times = segments.map(({ bytes, lastReceivedNs }) =>
    bytes > HEADER_BYTES ? nsToMs(lastReceivedNs) : Number.POSITIVE_INFINITY,
  );
  for (let index = times.length - 2; index >= 0; index--) {
    times[index] = Math.min(times[index] ?? 0, times[index + 1] ?? 0);
  }
  return times;
}
