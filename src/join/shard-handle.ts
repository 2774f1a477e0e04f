import type { Span } from '../core/evidence.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { JournalHead, JournalPosition } from '../wal/settle-journal.ts';
import type { SettledBatch } from './batch.ts';
import type { JoinStats } from './join-stats.ts';
import type { JoinShard } from './shard.ts';

/** A journal entry that somebody has read. */
export interface KnownEntry {
  readonly namespace: string;
  readonly traceId: string;
  readonly position: JournalPosition;
}

/**
 * A JoinShard as the rest of the process sees it, on this thread or on another. Calls are worked off in order; what returns
 * a promise has also seen every call before it.
 */
export interface ShardHandle {
  ingest(frame: StoredFrame, nowMs: number, isReplay?: boolean): void;
  restore(entry: JournalHead, position: JournalPosition): void;
  replayFrom(segment: number): void;
  endReplay(nowMs: number): Promise<void>;
  take(nowMs: number, recordsMax: number): Promise<SettledBatch | undefined>;
  stored(batchNumber: number, journalPositions: readonly JournalPosition[]): Promise<void>;
  nextDueAtMs(nowMs: number): Promise<number | undefined>;
  flush(): Promise<void>;
  dropBefore(segment: number, journalSegment: number, receivedMs: number): Promise<void>;
  forgetIgnored(beforeSegment: number): void;
  stats(nowMs: number): Promise<JoinStats>;
  /** See JoinShard. */
  spansOf(traceId: string): Promise<Span[]>;
  /** See JoinShard; of several shards each answers for its own traces. */
  isCurrent(entries: readonly KnownEntry[]): Promise<boolean[]>;
  repeat(namespace: string, traceId: string): Promise<boolean>;
  close(): Promise<void>;
}

/** A shard on this thread. */
export function inlineShard(shard: JoinShard): ShardHandle {
  return {
    ingest: (frame, nowMs, isReplay) => shard.ingest(frame, nowMs, isReplay),
    restore: (entry, position) => shard.restore(entry, position),
    replayFrom: (segment) => shard.replayFrom(segment),
    endReplay: async (nowMs) => shard.endReplay(nowMs),
    take: async (nowMs, recordsMax) => shard.take(nowMs, recordsMax),
    stored: async (batchNumber, positions) => shard.stored(batchNumber, positions),
    nextDueAtMs: async (nowMs) => shard.nextDueAtMs(nowMs),
    flush: async () => shard.flush(),
    dropBefore: async (segment, journalSegment, receivedMs) => shard.dropBefore(segment, journalSegment, receivedMs),
    forgetIgnored: (beforeSegment) => shard.forgetIgnored(beforeSegment),
    stats: async (nowMs) => shard.stats(nowMs),
    spansOf: async (traceId) => shard.spansOf(traceId),
    isCurrent: async (entries) => shard.isCurrent(entries),
    repeat: async (namespace, traceId) => shard.repeat(namespace, traceId),
    close: async () => undefined,
  };
}
