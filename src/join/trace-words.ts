/** Words of a trace. Times are the low 32 bits of epoch milliseconds: compare them by difference only (see `since`). */
export const TRACE = {
  id: 0,
  namespace: 4,
  /** Newest piece of evidence. */
  head: 5,
  pieces: 6,
  flags: 7,
  /** Where its newest entry in the settle journal is; an offset of zero is nowhere. */
  journalSegment: 8,
  journalOffset: 9,
  previous: 10,
  next: 11,
  list: 12,
  firstMs: 13,
  lastMs: 14,
  rootMs: 15,
  settledMs: 16,
  dueMs: 17,
  /** Pieces of evidence that its journal entry names. */
  stored: 18,
} as const;
export const TRACE_WORDS = 19;

/** Milliseconds from one 32-bit time to another; right while they are less than 24 days apart. */
export function since(laterMs: number, earlierMs: number): number {
  return (laterMs - earlierMs) | 0;
}
