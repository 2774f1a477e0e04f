import type { CoverageNote } from '../core/coverage.ts';
import type { BySignal, EvidenceCounts, FormGaps, FreshCounts } from '../core/settlement.ts';
import type { TraceTree } from './trace-tree.ts';

/**
 * What stands in gaps of records' texts, with how many words of four bytes it takes there; of a span, by its place in the tree. It is
 * written once a trace and copied into each gap, which begins at a whole word. Shorter than its gap is filled up with spaces, which
 * JSON allows between its tokens: numbers before, texts behind their closing quotation mark, which is part of the gap.
 */
export const FIELD_WORDS = {
  /** RFC 3339. */
  start: 8,
  end: 8,
  ingested: 8,
  /** Nanoseconds, at most 2^53 and perhaps negative; so are all numbers. */
  duration: 5,
  recordId: 8,
  spanId: 4,
  parentId: 4,
  selfTime: 5,
  /** Of a step of the path: nanoseconds from the root's start, and how long it took, both on the root's clock. */
  stepOffset: 5,
  stepDuration: 5,
  workDuration: 5,
  /** How long it took, as the sentence ends. */
  took: 6,
  traceId: 8,
  traceDuration: 5,
  reason: 5,
} as const;

export type Field = keyof typeof FIELD_WORDS;

/** What is the trace's own lies with the first span. */
export const TRACE_FIELDS: ReadonlySet<Field> = new Set(['traceId', 'traceDuration', 'reason']);

/** Where a field lies among those of its span, in words. */
export const FIELD_AT = offsets();

/** Words of all fields of a span. */
export const SPAN_WORDS = Object.values(FIELD_WORDS).reduce<number>((sum, words) => sum + words, 0);

/**
 * What each step of a critical path has behind its head, in words: the span's id, the text up to the time spent in it, that time, and the
 * end of the step.
 */
export const STEP_AT = { spanId: 0, text: 4, selfTime: 8, end: 13 } as const;
export const STEP_WORDS = 14;

function offsets(): Readonly<Record<Field, number>> {
  let at = 0;
  const all = Object.entries(FIELD_WORDS).map(([field, words]) => {
    at += words;
    return [field, at - words];
  });
  return Object.fromEntries(all);
}

/** Gaps whose length or place is not that of a field; the first begins at a word and has whole words. */
export type OddKind = 'slowestWork' | 'stepSkew' | 'traceId' | 'spanId';

export interface OddGap {
  readonly kind: OddKind;
  /** A place in the tree. */
  readonly arg: number;
  /** Bytes of the text. */
  at: number;
  readonly width: number;
}

/** The gap of a critical path: a whole number of words at a word. The text in it is that of the steps that were written last. */
export interface PathGap {
  /** Place in the tree of the span whose path it is. */
  readonly arg: number;
  /** Bytes of the text; it grows when it is too short. */
  readonly at: number;
  width: number;
  /** Places in the tree. */
  steps: Int32Array;
  /** Words of the text at which what a step has of its own begins. */
  ids: Int32Array;
}

/** A field of one span that records of the form have. */
export interface Need {
  readonly field: Field;
  readonly arg: number;
  /** The word at which it lies. */
  readonly at: number;
}

/** The text of a record with gaps. */
export interface RecordForm {
  /** Place in the tree of the span that is the access. */
  readonly index: number;
  /** The text, with spaces in its gaps; whole words. */
  text: Buffer;
  /** Three numbers a gap, in words: where the field lies, where its gap does, and how long they are. */
  readonly moves: Int32Array;
  readonly odd: readonly OddGap[];
  readonly path: PathGap | undefined;
  /** See FormGaps. */
  auditEnd: number;
  /** All gaps; another object after one grew. */
  gaps: FormGaps;
}

/** What one service of the trace adds to its coverage. */
export interface NoteForm {
  /** Places in the tree of its spans. */
  readonly spans: readonly number[];
  /** Where, when and whose the trace at hand is, is written into it. */
  readonly note: { -readonly [Key in keyof CoverageNote]: CoverageNote[Key] };
}

/** Texts about a span in the records of its trace: whole words, filled up with spaces. */
export interface SpanForm {
  /** Of a step of the critical path, up to the span's id. */
  readonly critical: Buffer;
  /** What is told of it when it is the slowest work, as JSON with its closing quotation mark; undefined for what is none. */
  readonly work: Uint32Array | undefined;
}

/** All records of traces that differ in nothing but ids and times. */
export interface TraceForm {
  readonly key: Float64Array;
  readonly records: readonly RecordForm[];
  /** What is written before the records are, each once. */
  readonly needs: readonly Need[];
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
  /** The notes of these. */
  readonly coverage: readonly CoverageNote[];
  /** Traces that it was looked up for. */
  uses: number;
  /** It gave other records than a whole settle: it is not used. */
  isWrong: boolean;
}
