import type { FrameNote } from './evidence.ts';
import { ROW } from './span-rows.ts';

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

/** Epoch nanoseconds from here on have no room in a record: 2262. High half. */
const TIME_HIGH_MAX = 2_145_000_000;

/**
 * Adds the span whose row begins at word `row`, which is written in the usual way. False, and nothing is added, when its times are
 * not there, in range and in order: what there is to say of them needs a whole settle.
 */
export function addColumn(
  columns: SpanColumns,
  words: Int32Array,
  row: number,
  content: number,
  note: FrameNote,
  payload: Uint8Array,
  view: DataView,
): boolean {
  const to = columns.count;
  const startAt = words[row + ROW.startAt] as number;
  const endAt = words[row + ROW.endAt] as number;
  const startHigh = view.getUint32(startAt + 4, true);
  const startLow = view.getUint32(startAt, true);
  const endHigh = view.getUint32(endAt + 4, true);
  const endLow = view.getUint32(endAt, true);
  if (startHigh === 0 || endHigh > TIME_HIGH_MAX) return false;
  if (startHigh > endHigh || (startHigh === endHigh && startLow > endLow)) return false;
  const spanIdAt = words[row + ROW.spanIdAt] as number;
  const parentIdAt = words[row + ROW.parentIdAt] as number;
  columns.contents[to] = content;
  columns.notes[to] = note;
  columns.idHigh[to] = view.getUint32(spanIdAt);
  columns.idLow[to] = view.getUint32(spanIdAt + 4);
  columns.parentHigh[to] = parentIdAt < 0 ? 0 : view.getUint32(parentIdAt);
  columns.parentLow[to] = parentIdAt < 0 ? 0 : view.getUint32(parentIdAt + 4);
  columns.startHigh[to] = startHigh;
  columns.startLow[to] = startLow;
  columns.endHigh[to] = endHigh;
  columns.endLow[to] = endLow;
  columns.flags[to] = words[row + ROW.flags] as number;
  columns.payloads[to] = payload;
  columns.views[to] = view;
  columns.itemStart[to] = words[row + ROW.itemStart] as number;
  columns.itemEnd[to] = words[row + ROW.itemEnd] as number;
  columns.count = to + 1;
  return true;
}
