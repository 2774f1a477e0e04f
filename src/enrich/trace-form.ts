import type { CoverageNote } from '../core/coverage.ts';
import type { BySignal, EvidenceCounts, FreshCounts } from '../core/settlement.ts';
import type { TraceTree } from './trace-tree.ts';

/**
 * What stands in a gap of a record's text; its argument is a place in the tree. What varies in length is filled up with spaces, which
 * JSON allows between its tokens: numbers before, texts behind their closing quotation mark, which is part of the gap.
 */
export const GAP = {
  /** RFC 3339. */
  start: 0,
  end: 1,
  ingested: 2,
  duration: 3,
  recordId: 4,
  traceId: 5,
  spanId: 6,
  parentId: 7,
  traceDuration: 8,
  selfTime: 9,
  /** The steps of `critical_path`. */
  criticalPath: 10,
  /** Of a step of the path: nanoseconds from the root's start, and how long it took, both on the root's clock. */
  stepOffset: 11,
  stepDuration: 12,
  /** Was the step's time corrected? */
  stepSkew: 13,
  workDuration: 14,
  slowestWork: 15,
  /** How long it took, as the sentence ends. */
  took: 16,
  reason: 17,
} as const;

/** The text of a record with gaps. */
export interface RecordForm {
  /** Place in the tree of the span that is the access. */
  readonly index: number;
  readonly gaps: Uint8Array;
  readonly args: Int32Array;
  /** The text, with spaces in its gaps; where they begin, and how long they are. Gaps grow when they are too short. */
  text: Buffer;
  readonly at: Int32Array;
  readonly width: Int32Array;
}

/** What one service of the trace adds to its coverage. */
export interface NoteForm {
  readonly service: string;
  /** Places in the tree of its spans. */
  readonly spans: readonly number[];
  readonly counts: Omit<CoverageNote, 'namespace' | 'service' | 'hour' | 'firstMs' | 'lastMs'>;
}

/** Texts about a span in the records of its trace. */
export interface SpanForm {
  /** Of a step of the critical path, up to the span's id. */
  readonly critical: Buffer;
  /** What is told of it when it is the slowest work, as JSON with its closing quotation mark; undefined for what is none. */
  readonly work: Buffer | undefined;
}

/** All records of traces that differ in nothing but ids and times. */
export interface TraceForm {
  readonly key: Float64Array;
  readonly records: readonly RecordForm[];
  readonly spans: readonly SpanForm[];
  /** The tree that the form was made from; its times are those of the trace at hand. */
  readonly tree: TraceTree;
  /** All its spans ran by one clock, so that no time is corrected. */
  readonly hasOneClock: boolean;
  /** Nothing of it is missing: then it does not matter since when things are known. */
  readonly isComplete: boolean;
  readonly hasWork: boolean;
  readonly counts: BySignal<EvidenceCounts>;
  readonly fresh: BySignal<FreshCounts>;
  readonly notes: readonly NoteForm[];
  /** Traces that it was looked up for. */
  uses: number;
  /** It gave other records than a whole settle: it is not used. */
  isWrong: boolean;
}
