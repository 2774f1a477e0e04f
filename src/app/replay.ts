import type { Clock } from '../core/clock.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';

/** Journal entries or frames handed to the shards before waiting for them: bounds the messages on their way to other threads. */
const AHEAD_MAX = 256;

export interface ReplayResult {
  readonly entries: number;
  readonly frames: number;
  readonly bytes: number;
}

/**
 * Brings the shards back to where the last run left off: first what the settle journal remembers, then the frames of the
 * write-ahead log. New frames may be ingested meanwhile; nothing is settled before the end.
 */
export async function replayInto(
  shards: readonly ShardHandle[],
  journal: Pick<SettleJournal, 'replay'>,
  wal: Pick<Wal, 'replay'>,
  clock: Clock,
): Promise<ReplayResult> {
  let ahead = 0;
  const keepPace = (): Promise<void> | undefined => {
    ahead++;
    if (ahead % AHEAD_MAX !== 0) return undefined;
    return Promise.all(shards.map((shard) => shard.nextDueAtMs(clock.nowMs()))).then(() => undefined);
  };
  const { entries } = await journal.replay((entry, position) => {
    for (const shard of shards) shard.restore(entry, position);
    return keepPace();
  });
  const { frames, bytes } = await wal.replay((frame) => {
    for (const shard of shards) shard.ingest(frame, clock.nowMs(), true);
    return keepPace();
  });
  await Promise.all(shards.map((shard) => shard.endReplay(clock.nowMs())));
  return { entries, frames, bytes };
}
