import type { LogRecord, Span } from './evidence.ts';

/**
 * Coverage: what was seen of each service hour by hour, and what must be missing. Spans are best-effort evidence; these are
 * the words for where they are known to fall short.
 */

export const HOUR_MS = 3_600_000;

/** What was counted of one service within one UTC hour. All of these add up over the settles of a trace. */
export interface CoverageCounts {
  /** Distinct spans. */
  spans: number;
  /** Spans without a parent. */
  roots: number;
  /** Log records, repeats included. */
  logs: number;
  /** Spans that state a sampling probability, of 100 % too. */
  stated: number;
  /** Spans that state a probability below 100 %: others like them were left out. */
  sampled: number;
  /** Spans of a trace that was decided against: what it called recorded nothing. */
  unsampled: number;
  /** Spans that name a parent, as far as their traces are known in full. */
  children: number;
  /** Of these, spans whose parent of the same process never came … */
  missingLocal: number;
  /** … and spans whose parent in another process never came. */
  missingRemote: number;
}

/** What one settle adds to what is known of one service in one hour. */
export interface CoverageNote extends CoverageCounts {
  readonly namespace: string;
  /** `service.name`, cut to a length; empty when the evidence names none. */
  readonly service: string;
  /** The UTC hour in which the evidence began: epoch milliseconds divided by HOUR_MS, rounded down. */
  readonly hour: number;
  /** Earliest and newest start, epoch milliseconds. */
  firstMs: number;
  lastMs: number;
  /** Lowest and highest sampling probability stated, above 0 to 1; both 0 when none was stated that can be relied on. */
  probabilityMin: number;
  probabilityMax: number;
}

export interface ObservedEvidence {
  readonly spans: readonly Span[];
  readonly logs: readonly LogRecord[];
}

/** One settle as coverage looks at it. */
export interface ObservedTrace {
  readonly namespace: string;
  /** Evidence that no settle before this one counted. */
  readonly fresh: ObservedEvidence;
  /** Evidence of this trace that is stored already and went into this settle, too. */
  readonly earlier: ObservedEvidence;
  /** False when evidence of the trace is gone or was left out: then no parent is called missing. */
  readonly isWhole: boolean;
}

/** Pure. The notes of all settles of a trace add up to those of one settle of the whole. */
export type Observe = (trace: ObservedTrace) => CoverageNote[];
