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

/** Everything in a note that adds up. */
export const COVERAGE_COUNTS = [
  'spans',
  'roots',
  'logs',
  'stated',
  'sampled',
  'unsampled',
  'children',
  'missingLocal',
  'missingRemote',
] as const satisfies (keyof CoverageCounts)[];

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

/**
 * - `sampling`: a service states that it keeps only a part of its spans
 * - `unsampled`: spans came of traces that were decided against: what they called recorded nothing
 * - `missing_parents`: spans name parents that never came
 * - `silence`: a service with traffic says nothing
 * - `misdated`: spans carry a time that cannot be, so it is not known when they happened
 * - `down`, `refused`: Spantrail did not run, or refused requests
 * - `unwatched`: services beyond the limit of the settings are not watched
 * - `unknown`: what was known of this time is lost
 */
export const GAP_KINDS = [
  'sampling',
  'unsampled',
  'missing_parents',
  'silence',
  'misdated',
  'down',
  'refused',
  'unwatched',
  'unknown',
] as const;

export type GapKind = (typeof GAP_KINDS)[number];

/** As the HTTP API answers it. Times are RFC 3339. */
export interface CoverageGap {
  readonly kind: GapKind;
  /** Absent where the gap is of all services. */
  readonly namespace?: string;
  readonly service?: string;
  readonly from: string;
  readonly to: string;
  /** It lasted as of the newest that is known. */
  readonly ongoing: boolean;
  /** What is missing, in one sentence. */
  readonly text: string;
}

export interface ServiceCoverage {
  readonly namespace: string;
  /** Empty when the evidence names no service. */
  readonly service: string;
  /** Hours of the range with evidence. */
  readonly hours: number;
  readonly first_seen: string;
  readonly last_seen: string;
  readonly spans: number;
  readonly roots: number;
  readonly logs: number;
  readonly sampling: {
    /** Spans that state a sampling probability; all others say nothing, which is no proof of completeness. */
    readonly stated: number;
    readonly sampled: number;
    readonly unsampled: number;
    readonly probability_min?: number;
    readonly probability_max?: number;
  };
  readonly missing_parents: {
    /** Spans that name a parent. */
    readonly of: number;
    readonly same_process: number;
    readonly other_process: number;
  };
  readonly gaps: readonly CoverageGap[];
}

/** What is asked of coverage. */
export interface CoverageQuestion {
  /** Epoch milliseconds; from the beginning and to now where absent. */
  readonly fromMs?: number;
  /** Exclusive. */
  readonly toMs?: number;
  readonly namespace?: string;
  /** Only these services; all where absent. */
  readonly services?: readonly string[];
}

export interface CoverageAnswer {
  /** False when `coverage.enabled` is off: then nothing is known of new evidence. */
  readonly watching: boolean;
  /** Nothing is known of the time before; absent when nothing is known at all. */
  readonly known_since?: string;
  readonly from?: string;
  readonly to: string;
  readonly services: readonly ServiceCoverage[];
  /** Gaps of all services. */
  readonly gaps: readonly CoverageGap[];
  readonly text: string;
}

/** What a list of records says of its coverage. */
export interface CoverageSummary {
  /** `no gap observed …`, or the gaps in words. */
  readonly text: string;
  readonly watching: boolean;
  readonly known_since?: string;
  /** Services seen in the range. */
  readonly services: number;
  readonly gap_count: number;
  /** The newest ones, at most ten. */
  readonly gaps: readonly CoverageGap[];
}
