import { hexOfWords } from '../core/hex.ts';

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

/** The four words of a trace id in hex, and back. */
export function parseTraceId(hex: string, id: Uint32Array): void {
  for (let word = 0; word < 4; word++) {
    let value = 0;
    for (let at = word * 8; at < word * 8 + 8; at++) {
      const code = hex.charCodeAt(at);
      value = (value << 4) | (code < 0x3a ? code - 0x30 : code - 0x57);
    }
    id[word] = value;
  }
}

export function traceIdText(id: Uint32Array): string {
  return hexOfWords(id, 0, id.length);
}
