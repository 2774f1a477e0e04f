const WORD_BYTES = 4;
const WORDS_MAX = 8;

/** Written over each time. */
const BYTES = Buffer.from(new ArrayBuffer(WORDS_MAX * WORD_BYTES));

/**
 * Lower-case hex of up to eight words of 32 bits, eight digits each, from the one at `from` on. By way of bytes: `toString(16)` of a
 * number takes some hundred nanoseconds where it is larger than 31 bits.
 */
export function hexOfWords(words: ArrayLike<number>, from: number, count: number): string {
  for (let at = 0; at < count; at++) {
    const word = words[from + at] as number;
    BYTES[WORD_BYTES * at] = word >>> 24;
    BYTES[WORD_BYTES * at + 1] = word >>> 16;
    BYTES[WORD_BYTES * at + 2] = word >>> 8;
    BYTES[WORD_BYTES * at + 3] = word;
  }
  return BYTES.toString('hex', 0, WORD_BYTES * count);
}
