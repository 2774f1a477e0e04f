import type { FrameNote } from './evidence.ts';

/** Spans of one trace that are looked at as columns; larger traces are seldom alike. */
export const COLUMN_SPANS_MAX = 64;

/**
 * The spans of one trace as columns, with what they say as objects that are known from spans before. It is filled again and
 * again: nothing is made for a span. Ids and times are big halves and small halves, unsigned 32 bits.
 */
export class SpanColumns {
  count = 0;
  /** Number of what the span says: the same for spans that say the same; see `Span.content`. */
  readonly contents = new Float64Array(COLUMN_SPANS_MAX);
  /** Of the frame that it came in. */
  readonly notes: FrameNote[] = [];
  readonly idHigh = new Uint32Array(COLUMN_SPANS_MAX);
  readonly idLow = new Uint32Array(COLUMN_SPANS_MAX);
  /** Both 0 for a root. */
  readonly parentHigh = new Uint32Array(COLUMN_SPANS_MAX);
  readonly parentLow = new Uint32Array(COLUMN_SPANS_MAX);
  /** Epoch nanoseconds, never 0; the end is not before the start. */
  readonly startHigh = new Uint32Array(COLUMN_SPANS_MAX);
  readonly startLow = new Uint32Array(COLUMN_SPANS_MAX);
  readonly endHigh = new Uint32Array(COLUMN_SPANS_MAX);
  readonly endLow = new Uint32Array(COLUMN_SPANS_MAX);
  /** Of the span; its trace state is empty. */
  readonly flags = new Int32Array(COLUMN_SPANS_MAX);
  /** Where the span's own bytes are. */
  readonly payloads: Uint8Array[] = [];
  readonly views: DataView[] = [];
  readonly itemStart = new Int32Array(COLUMN_SPANS_MAX);
  readonly itemEnd = new Int32Array(COLUMN_SPANS_MAX);
}
