import { type Clock, nsToMs } from '../core/clock.ts';
import type { JoinStats } from '../join/shard.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';

interface Parts {
  readonly shards: readonly ShardHandle[];
  readonly wal: Pick<Wal, 'segments' | 'drop'>;
  readonly journal: Pick<SettleJournal, 'dropBefore'>;
  readonly clock: Clock;
  readonly settings: { readonly horizonAgeMs: number; readonly horizonBytesMax: number };
}

/** Lets segments go, from the oldest on: those that are stored and that late evidence may no longer, or can no longer, join. */
export async function dropStored(
  { shards, wal, journal, clock, settings }: Parts,
  segments: ReturnType<Wal['segments']>,
  stats: readonly JoinStats[],
): Promise<void> {
  const pending = (segment: number) =>
    stats.reduce((sum, shard) => sum + (shard.segments.get(segment)?.pending ?? 0), 0);
  const held = (segment: number) => stats.reduce((sum, shard) => sum + (shard.segments.get(segment)?.held ?? 0), 0);
  let storedBytes = segments.reduce((sum, { segment, bytes }) => sum + (pending(segment) === 0 ? bytes : 0), 0);
  let dropped = 0;
  // The newest stays, so that numbers are never used twice.
  for (const { segment, bytes, lastReceivedNs, sealed } of segments.slice(0, -1)) {
    const isOld = clock.nowMs() - nsToMs(lastReceivedNs) > settings.horizonAgeMs;
    const isWanted = held(segment) > 0 && !isOld && storedBytes <= settings.horizonBytesMax;
    if (!sealed || pending(segment) > 0 || isWanted) break;
    await Promise.all(shards.map((shard) => shard.dropBefore(segment + 1)));
    await wal.drop(segment);
    storedBytes -= bytes;
    dropped++;
  }
  const oldest = wal.segments()[0];
  if (dropped > 0 && oldest !== undefined) await journal.dropBefore(nsToMs(oldest.firstReceivedNs));
}
