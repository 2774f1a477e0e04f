/** Writing texts and numbers into bytes, in place: what a record's gaps are filled with. */

const ZERO = 0x30;
const MINUS = 0x2d;
const HEX_DIGITS = Uint8Array.from(Buffer.from('0123456789abcdef'));

/** Digits of a fraction of a second. */
export const FRACTION_DIGITS = 9;

export function putHex(bytes: Uint8Array, to: number, word: number): void {
  for (let digit = 0; digit < 8; digit++) {
    bytes[to + digit] = HEX_DIGITS[(word >>> (28 - 4 * digit)) & 15] as number;
  }
}

export function put(bytes: Uint8Array, to: number, from: Uint8Array): void {
  for (let index = 0; index < from.length; index++) bytes[to + index] = from[index] as number;
}

export function putAfter(bytes: Uint8Array, to: number, from: Uint8Array): number {
  put(bytes, to, from);
  return to + from.length;
}

/** Nine digits. */
export function putDigits(bytes: Uint8Array, to: number, number: number): void {
  let rest = number | 0;
  for (let at = to + FRACTION_DIGITS - 1; at >= to; at--) {
    const tenth = (rest / 10) | 0;
    bytes[at] = ZERO + rest - tenth * 10;
    rest = tenth;
  }
}

/** A whole number at the right end of its gap. */
export function putNumber(bytes: Uint8Array, to: number, width: number, number: number): void {
  let rest = number < 0 ? -number : number;
  let at = to + width - 1;
  for (; rest > 0x7fff_ffff; at--) {
    const tenth = Math.floor(rest / 10);
    bytes[at] = ZERO + (rest - tenth * 10);
    rest = tenth;
  }
  let small = rest | 0;
  do {
    const tenth = (small / 10) | 0;
    bytes[at--] = ZERO + small - tenth * 10;
    small = tenth;
  } while (small > 0);
  if (number < 0) bytes[at] = MINUS;
}

export function digitsOf(number: number): number {
  let digits = 1;
  for (let limit = 10; number >= limit; limit *= 10) digits++;
  return digits;
}
