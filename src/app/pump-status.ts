import type { Sum } from '../api/contract.ts';
import { nsToMs } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import type { JoinStats } from '../join/join-stats.ts';
import type { Wal } from '../wal/wal.ts';

export type Segments = ReturnType<Wal['segments']>;

/** What is pending, over all shards. */
export interface PumpStatus {
  readonly tracesOpen: number;
  readonly tracesStored: number;
  readonly evidencePending: number;
  readonly indexBytes: number;
  readonly indexBytesMax: number;
  readonly replayed: number;
  readonly walBytes: number;
  /** Bytes of segments that hold evidence not stored yet: what refusal is decided by. */
  readonly unsettledBytes: number;
  /** Age of the oldest evidence not stored yet, 0 when there is none. */
  readonly lagMs: number;
  /** Age of the oldest evidence that late evidence can still join. */
  readonly horizonMs: number;
  /** The store (or journal, or quarantine) failed and has not taken a batch since: what it said. */
  readonly storeFailure: string | undefined;
  /** Of one moment: true also while evidence comes and records go. */
  readonly sums: readonly Sum[];
}

/** What was looked at, at about the same time. */
export interface Look {
  readonly nowMs: number;
  readonly stats: readonly JoinStats[];
  readonly segments: Segments;
  readonly walBytes: number;
}

export function summarise({ nowMs, stats, segments, walBytes }: Look): Omit<PumpStatus, 'storeFailure' | 'sums'> {
  const isPending = (segment: number) => stats.some((shard) => (shard.segments.get(segment)?.pending ?? 0) > 0);
  const oldestPendingMs = Math.min(...stats.map((shard) => shard.oldestPendingMs ?? nowMs), nowMs);
  const oldestReceivedMs = segments[0] === undefined ? nowMs : nsToMs(segments[0].firstReceivedNs);
  // What the index had no room to remember cannot be joined either.
  const knownSinceMs = Math.max(oldestReceivedMs, ...stats.map((shard) => shard.knownSinceMs ?? 0));
  return {
    tracesOpen: sum(stats, (shard) => shard.tracesOpen),
    tracesStored: sum(stats, (shard) => shard.tracesStored),
    evidencePending: sum(stats, (shard) => shard.evidencePending),
    indexBytes: sum(stats, (shard) => shard.indexBytes),
    indexBytesMax: sum(stats, (shard) => shard.indexBytesMax),
    replayed: sum(stats, (shard) => shard.replayed),
    walBytes,
    unsettledBytes: sum(segments, ({ segment, bytes }) => (isPending(segment) ? bytes : 0)),
    lagMs: nowMs - oldestPendingMs,
    horizonMs: Math.max(0, nowMs - knownSinceMs),
  };
}

export function setGauges(counters: Counters, status: PumpStatus): void {
  counters.set('traces_open', status.tracesOpen);
  counters.set('traces_stored', status.tracesStored);
  counters.set('evidence_pending', status.evidencePending);
  counters.set('replayed', status.replayed);
  counters.set('wal_bytes', status.walBytes);
  counters.set('wal_unsettled_bytes', status.unsettledBytes);
  counters.set('wal_lag_ms', status.lagMs);
  counters.set('horizon_ms', status.horizonMs);
  for (const { of, difference } of status.sums) counters.set('unaccounted', difference, { of });
}

export function pendingOf(stats: readonly JoinStats[]): { traces: number; logs: number } {
  return {
    traces: sum(stats, (shard) => shard.pendingBySignal.traces),
    logs: sum(stats, (shard) => shard.pendingBySignal.logs),
  };
}

/** Evidence in segments before this one is all stored. New frames go to the newest segment or to later ones. */
export function storedBefore(stats: readonly JoinStats[], segments: Segments): number {
  const newest = segments.at(-1)?.segment ?? 0;
  return Math.min(newest, ...stats.map((shard) => shard.unfinishedFrom ?? newest));
}

export function sum<Item>(items: readonly Item[], amount: (item: Item) => number): number {
  return items.reduce((total, item) => total + amount(item), 0);
}
