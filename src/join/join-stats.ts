import type { BySignal } from '../core/settlement.ts';
import type { SegmentCount } from './trace-table.ts';

/** Numbers of one shard. Traces are open while they have evidence that is not stored. */
export interface JoinStats {
  /** Until the replay is over the index does not know all that is in the write-ahead log. */
  readonly isReplaying: boolean;
  readonly tracesOpen: number;
  /** Stored traces that late evidence can join. */
  readonly tracesStored: number;
  readonly evidencePending: number;
  readonly pendingBySignal: BySignal<number>;
  /** Epoch milliseconds at which the oldest evidence not stored yet was received. */
  readonly oldestPendingMs: number | undefined;
  readonly indexBytes: number;
  readonly indexBytesMax: number;
  /** Log records that name no trace and are no access, by segment: they count as context and are not kept. */
  readonly ignored: ReadonlyMap<number, number>;
  /** Pieces that a replay brought back as not stored yet. */
  readonly replayed: number;
  /** The oldest segment of which something is not stored or set aside yet. */
  readonly unfinishedFrom: number | undefined;
  /** By segment number; a segment that is not there has no evidence that is not stored. */
  readonly segments: ReadonlyMap<number, Readonly<SegmentCount>>;
  /** Epoch milliseconds: of traces settled last before this nothing is known any more, for want of memory. */
  readonly knownSinceMs: number | undefined;
}
