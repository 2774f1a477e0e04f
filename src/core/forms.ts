import type { CoverageNote } from './coverage.ts';
import type { Span } from './evidence.ts';
import type { FormedRecord } from './formed-record.ts';
import type { SettleReason } from './record.ts';
import type { BySignal, EvidenceCounts, FreshCounts, RecordWrite } from './settlement.ts';
import type { SpanColumns } from './span-columns.ts';

/** What a trace is settled as, apart from its spans. */
export interface FormedAbout {
  readonly namespace: string;
  readonly traceId: string;
  readonly reason: SettleReason;
  readonly isReplayed: boolean;
  /** Something is forgotten; see DueTrace. */
  readonly horizonMs: number;
}

/** The same as a whole settle gives, stamped. */
export interface FormedSettlement {
  readonly rank: bigint;
  readonly writes: readonly RecordWrite[];
  readonly counts: BySignal<EvidenceCounts>;
  readonly fresh: BySignal<FreshCounts>;
  readonly coverage: readonly CoverageNote[];
}

/** What a form gives. */
export interface FormedRecords extends FormedSettlement {
  readonly writes: readonly FormedRecord[];
}

/** A trace that was settled as a whole, to be the pattern of others. */
export interface Pattern extends Omit<FormedSettlement, 'rank'> {
  /** In the order of the columns, with their names as records have them. */
  readonly spans: readonly Span[];
}

/**
 * What is to be done with a trace in columns. `settle` it by its form; `check`: by its form and as a whole, to be compared;
 * `learn`: as a whole, to become a form; undefined: as a whole.
 */
export type FormAdvice = 'settle' | 'check' | 'learn' | undefined;

/** What the join asks of traces that say what others said; `Settle` is its counterpart for all others. */
export interface Forms {
  advise(columns: SpanColumns, about: Pick<FormedAbout, 'horizonMs'>): FormAdvice;
  /** Of the trace that advice was asked for last. The notes of coverage are written over by the next. */
  settle(columns: SpanColumns, about: FormedAbout): FormedRecords;
  /** Makes a form of the trace that advice was asked for last, as it was settled. */
  learn(pattern: Pattern): void;
  /** Compares what the form gave with what a whole settle gives of the same trace. A form that is wrong is not used again. */
  check(formed: FormedSettlement, whole: FormedSettlement): boolean;
  /** The memory that records since the last call lie in: theirs until it is recycled. */
  takeChunks(): readonly Buffer[];
  recycle(chunks: readonly Buffer[]): void;
}
