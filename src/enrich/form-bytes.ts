/** Writing numbers, times and ids as text into memory, two characters at a time: what a record's gaps are filled with. */

import { tookText } from './sentence.ts';

/** Bytes of a word: fields begin and end at one. */
export const WORD = 4;
/** Pairs of characters in a word. */
export const PAIRS = 2;

const ZERO = 0x30;
const MINUS = 0x2d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;

/** Two characters each, as memory has them. */
const HEX_PAIRS = pairsOf(256, (number) => number.toString(16).padStart(2, '0'));
const DIGIT_PAIRS = pairsOf(100, (number) => String(number).padStart(2, '0'));
/** What a number begins with. */
const FIRST_PAIRS = pairsOf(100, (number) => String(number).padStart(2));
const SPACE_PAIR = pairsOf(1, () => '  ')[0] as number;
/** The last digit of a fraction of a second, and what a time ends with. */
const ZULU_PAIRS = pairsOf(10, (number) => `${number}Z`);
const TIME_END = pairsOf(1, () => '" ')[0] as number;

function pairsOf(count: number, text: (number: number) => string): Uint16Array {
  const bytes = Uint8Array.from(Buffer.from(Array.from({ length: count }, (_, number) => text(number)).join('')));
  return new Uint16Array(bytes.buffer);
}

/** Eight hex digits: four pairs. */
export function putHex(pairs: Uint16Array, to: number, word: number): void {
  pairs[to] = HEX_PAIRS[word >>> 24] as number;
  pairs[to + 1] = HEX_PAIRS[(word >>> 16) & 0xff] as number;
  pairs[to + 2] = HEX_PAIRS[(word >>> 8) & 0xff] as number;
  pairs[to + 3] = HEX_PAIRS[word & 0xff] as number;
}

/** Two hex digits for each of so many bytes. */
export function putHexOf(pairs: Uint16Array, to: number, bytes: Uint8Array, start: number, count: number): void {
  for (let at = 0; at < count; at++) pairs[to + at] = HEX_PAIRS[bytes[start + at] as number] as number;
}

/** `123456789Z" `, of nanoseconds: six pairs. */
export function putFraction(pairs: Uint16Array, to: number, nanoseconds: number): void {
  const tenths = ((nanoseconds | 0) / 10) | 0;
  pairs[to + 4] = ZULU_PAIRS[nanoseconds - tenths * 10] as number;
  pairs[to + 5] = TIME_END;
  let rest = tenths;
  for (let at = to + 3; at >= to; at--) {
    const next = (rest / 100) | 0;
    pairs[at] = DIGIT_PAIRS[rest - next * 100] as number;
    rest = next;
  }
}

/** A whole number at the right end of its gap of so many pairs, which has room for it and its sign. */
export function putNumber(pairs: Uint16Array, to: number, count: number, number: number): void {
  let rest = number < 0 ? -number : number;
  let at = to + count - 1;
  for (; rest > 0x7fff_ffff; at--) {
    const next = Math.floor(rest / 100);
    pairs[at] = DIGIT_PAIRS[rest - next * 100] as number;
    rest = next;
  }
  let small = rest | 0;
  for (; small >= 100; at--) {
    const next = (small / 100) | 0;
    pairs[at] = DIGIT_PAIRS[small - next * 100] as number;
    small = next;
  }
  pairs[at] = FIRST_PAIRS[small] as number;
  const first = at * 2 + (small < 10 ? 0 : -1);
  while (--at >= to) pairs[at] = SPACE_PAIR;
  if (number < 0) new Uint8Array(pairs.buffer, pairs.byteOffset)[first] = MINUS;
}

export function put(bytes: Uint8Array, to: number, from: Uint8Array): void {
  for (let index = 0; index < from.length; index++) bytes[to + index] = from[index] as number;
}

/** A text of whole words. */
export function wordsOf(text: string): Uint32Array {
  return new Uint32Array(Uint8Array.from(Buffer.from(text)).buffer);
}

/** How many are missing to whole words. */
export function missingBytes(bytes: number): number {
  return (WORD - (bytes % WORD)) % WORD;
}

/** Words of four bytes. */
export function putWords(words: Uint32Array, to: number, from: Uint32Array): void {
  for (let word = 0; word < from.length; word++) words[to + word] = from[word] as number;
}

/** A text with its closing quotation mark, and spaces up to the gap's end. Of what is no ASCII there is only the micro sign. */
export function putText(bytes: Uint8Array, to: number, end: number, text: string): void {
  let at = to;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x80) bytes[at++] = code;
    else {
      bytes[at++] = 0xc0 | (code >> 6);
      bytes[at++] = 0x80 | (code & 0x3f);
    }
  }
  bytes[at++] = QUOTE;
  while (at < end) bytes[at++] = SPACE;
}

const MICRO = Buffer.from(' µs"');
const MILLI = Buffer.from(' ms"');
const LONG_NS = 999.5e6;
const SHORT_NS = 999.5e3;
const TINY_NS = 1e3;

/** `tookText` with its closing quotation mark, and spaces up to the gap's end: most take between a microsecond and a second. */
export function putTook(bytes: Uint8Array, to: number, end: number, nanoseconds: number): void {
  if (nanoseconds < TINY_NS || nanoseconds >= LONG_NS) {
    putText(bytes, to, end, tookText(nanoseconds));
    return;
  }
  const isMicro = nanoseconds < SHORT_NS;
  const unit = isMicro ? MICRO : MILLI;
  bytes[to] = COMMA;
  bytes[to + 1] = SPACE;
  let at = putSmall(bytes, to + 2, Math.round(nanoseconds / (isMicro ? 1e3 : 1e6)));
  put(bytes, at, unit);
  for (at += unit.length; at < end; at++) bytes[at] = SPACE;
}

/** Digits of a number below 1000; where the next character stands. */
function putSmall(bytes: Uint8Array, to: number, number: number): number {
  let at = to;
  const tens = (number / 10) | 0;
  const hundreds = (number / 100) | 0;
  if (hundreds > 0) bytes[at++] = ZERO + hundreds;
  if (tens > 0) bytes[at++] = ZERO + tens - hundreds * 10;
  bytes[at++] = ZERO + number - tens * 10;
  return at;
}
