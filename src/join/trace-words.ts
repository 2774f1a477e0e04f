/** Words of a trace. Times are the low 32 bits of epoch milliseconds: compare them by difference only (see `since`). */
export const TRACE = {
  id: 0,
  namespace: 4,
  /** Newest piece of evidence. */
  head: 5,
  pieces: 6,
  pending: 7,
  flags: 8,
  /** Where its last entry in the settle journal is; an offset of zero is nowhere. */
  journalSegment: 9,
  journalOffset: 10,
  previous: 11,
  next: 12,
  list: 13,
  firstMs: 14,
  lastMs: 15,
  rootMs: 16,
  settledMs: 17,
  dueMs: 18,
  /** How its evidence was counted so far, in the order of EVIDENCE_USES. */
  counts: 19,
  /** Until the first settle after a restart, in the place of two counts: the newest evidence of the journalled settle. */
  throughSegment: 19,
  throughOffset: 20,
} as const;
export const TRACE_WORDS = 23;

/** Milliseconds from one 32-bit time to another; right while they are less than 24 days apart. */
export function since(laterMs: number, earlierMs: number): number {
  return (laterMs - earlierMs) | 0;
}
