import type { FrameNote, LogRecord } from './evidence.ts';
import { bitsAt } from './piece-bits.ts';
import { type KnownPart, ROW } from './span-rows.ts';

/** Spans of one trace that are looked at as columns; larger traces are seldom alike. */
export const COLUMN_SPANS_MAX = 64;

/**
 * The spans of one trace as columns, with what they say as objects that are known from spans before. It is filled again and
 * again: nothing is made for a span. Ids and times are big halves and small halves, unsigned 32 bits.
 */
export class SpanColumns {
  count = 0;
  /** The id of the trace, as it is read: big-endian words. */
  readonly traceId = new Uint32Array(4);
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
  /** Of the span; its trace state tells nothing of sampling. */
  readonly flags = new Int32Array(COLUMN_SPANS_MAX);
  /** Of its bytes, `bitsAt`. */
  readonly bits = new Int32Array(COLUMN_SPANS_MAX);
  /** Log records of the trace. */
  readonly logs: LogRecord[] = [];
}

/** Words of what is told of one span: its trace's id, then these. Times, flags and bits are 0 where it is not written in the usual way. */
export const FACT = {
  traceId: 0,
  idHigh: 4,
  idLow: 5,
  parentHigh: 6,
  parentLow: 7,
  startHigh: 8,
  startLow: 9,
  endHigh: 10,
  endLow: 11,
  flags: 12,
  bits: 13,
  /** Start of the Span message in its payload. */
  itemStart: 14,
  /** `KnownPart.number` of what its bytes are known by, 0 for none. */
  part: 15,
} as const;
export const FACT_WORDS = 16;

const WORD_MAX = 0xff_ff_ff_ff;

/** Epoch nanoseconds from here on have no room in a record: 2262. High half. */
const TIME_HIGH_MAX = 2_145_000_000;

/** Reads what columns tell of a span out of its payload; its row begins at word `row`. */
export function putFacts(
  facts: Uint32Array,
  to: number,
  words: Int32Array,
  row: number,
  view: DataView,
  part: KnownPart | undefined,
): void {
  const traceIdAt = words[row + ROW.traceIdAt] as number;
  const spanIdAt = words[row + ROW.spanIdAt] as number;
  const parentIdAt = words[row + ROW.parentIdAt] as number;
  const startAt = words[row + ROW.startAt] as number;
  const endAt = words[row + ROW.endAt] as number;
  for (let word = 0; word < 4; word++) facts[to + word] = view.getUint32(traceIdAt + 4 * word);
  facts[to + FACT.idHigh] = view.getUint32(spanIdAt);
  facts[to + FACT.idLow] = view.getUint32(spanIdAt + 4);
  facts[to + FACT.parentHigh] = parentIdAt < 0 ? 0 : view.getUint32(parentIdAt);
  facts[to + FACT.parentLow] = parentIdAt < 0 ? 0 : view.getUint32(parentIdAt + 4);
  facts[to + FACT.itemStart] = words[row + ROW.itemStart] as number;
  facts[to + FACT.part] = partNumber(part);
  if (startAt < 0) {
    facts.fill(0, to + FACT.startHigh, to + FACT.itemStart);
    return;
  }
  facts[to + FACT.startHigh] = view.getUint32(startAt + 4, true);
  facts[to + FACT.startLow] = view.getUint32(startAt, true);
  facts[to + FACT.endHigh] = view.getUint32(endAt + 4, true);
  facts[to + FACT.endLow] = view.getUint32(endAt, true);
  facts[to + FACT.flags] = words[row + ROW.flags] as number;
  facts[to + FACT.bits] = bitsAt(view, words[row + ROW.itemStart] as number, words[row + ROW.itemEnd] as number);
}

/** Numbers are given in turn: one that has no room in a word is that of no part any more. */
function partNumber(part: KnownPart | undefined): number {
  return part === undefined || part.number > WORD_MAX ? 0 : part.number;
}

/**
 * Adds the span whose facts begin at `at`. False, and nothing is added, when its times are not there, in range and in order: what
 * there is to say of them needs a whole settle.
 */
export function addColumn(
  columns: SpanColumns,
  facts: Uint32Array,
  at: number,
  content: number,
  note: FrameNote,
): boolean {
  const to = columns.count;
  const startHigh = facts[at + FACT.startHigh] as number;
  const startLow = facts[at + FACT.startLow] as number;
  const endHigh = facts[at + FACT.endHigh] as number;
  const endLow = facts[at + FACT.endLow] as number;
  if (startHigh === 0 || endHigh > TIME_HIGH_MAX) return false;
  if (startHigh > endHigh || (startHigh === endHigh && startLow > endLow)) return false;
  columns.contents[to] = content;
  columns.notes[to] = note;
  columns.idHigh[to] = facts[at + FACT.idHigh] as number;
  columns.idLow[to] = facts[at + FACT.idLow] as number;
  columns.parentHigh[to] = facts[at + FACT.parentHigh] as number;
  columns.parentLow[to] = facts[at + FACT.parentLow] as number;
  columns.startHigh[to] = startHigh;
  columns.startLow[to] = startLow;
  columns.endHigh[to] = endHigh;
  columns.endLow[to] = endLow;
  columns.flags[to] = facts[at + FACT.flags] as number;
  columns.bits[to] = facts[at + FACT.bits] as number;
  columns.count = to + 1;
  return true;
}

/** Which of so many spans, `FACT_WORDS` each and in the order of their payload, starts there; -1 for none. `guess` is looked at first. */
export function spanAt(facts: Uint32Array, count: number, itemStart: number, guess: number): number {
  if (guess < count && facts[guess * FACT_WORDS + FACT.itemStart] === itemStart) return guess;
  let low = 0;
  let high = count - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const start = facts[middle * FACT_WORDS + FACT.itemStart] as number;
    if (start === itemStart) return middle;
    if (start < itemStart) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
