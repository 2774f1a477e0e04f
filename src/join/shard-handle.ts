import type { Span } from '../core/evidence.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';
import type { SettledBatch } from './batch.ts';
import type { JoinShard, JoinStats } from './shard.ts';

/**
 * A JoinShard as the rest of the process sees it, on this thread or on another. Calls are worked off in order; what returns
 * a promise has also seen every call before it.
 */
export interface ShardHandle {
  ingest(frame: StoredFrame, nowMs: number, isReplay?: boolean): void;
  restore(entry: JournalEntry, position: JournalPosition): void;
  endReplay(nowMs: number): Promise<void>;
  take(nowMs: number, recordsMax: number): Promise<SettledBatch | undefined>;
  stored(batchNumber: number, journalPositions: readonly JournalPosition[]): Promise<void>;
  nextDueAtMs(nowMs: number): Promise<number | undefined>;
  flush(): Promise<void>;
  dropBefore(segment: number): Promise<void>;
  stats(nowMs: number): Promise<JoinStats>;
  /** See JoinShard. */
  spansOf(traceId: string): Promise<Span[]>;
  close(): Promise<void>;
}

/** A shard on this thread. */
export function inlineShard(shard: JoinShard): ShardHandle {
  return {
    ingest: (frame, nowMs, isReplay) => shard.ingest(frame, nowMs, isReplay),
    restore: (entry, position) => shard.restore(entry, position),
    endReplay: async (nowMs) => shard.endReplay(nowMs),
    take: async (nowMs, recordsMax) => shard.take(nowMs, recordsMax),
    stored: async (batchNumber, positions) => shard.stored(batchNumber, positions),
    nextDueAtMs: async (nowMs) => shard.nextDueAtMs(nowMs),
    flush: async () => shard.flush(),
    dropBefore: async (segment) => shard.dropBefore(segment),
    stats: async (nowMs) => shard.stats(nowMs),
    spansOf: async (traceId) => shard.spansOf(traceId),
    close: async () => undefined,
  };
}
