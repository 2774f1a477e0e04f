import type { FramePosition } from './segment-format.ts';

/** Value of a lower-case hex digit by its code; above 15 for what is none. */
const HEX_VALUE = new Uint8Array(128).fill(0xff);
for (const [value, digit] of [...'0123456789abcdef'].entries()) HEX_VALUE[digit.charCodeAt(0)] = value;

/** Longer texts are left to native code: above this a call of it costs less than the characters. */
const SHORT_TEXT = 64;

/** One 64-bit number as two words: much faster than the shifts of a bigint. */
const WIDE = new BigUint64Array(1);
const WIDE_BYTES = new Uint8Array(WIDE.buffer);
const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

const BYTES_FIRST = 16 * 1024;

/** Bytes that grow as they are written. Thousands of entries a second go through: no objects, few calls of native code. */
export class JournalOutput {
  #bytes: Buffer;
  at = 0;

  /** Writes into that memory, and into larger one when it is full. */
  constructor(memory: Buffer = Buffer.allocUnsafeSlow(BYTES_FIRST)) {
    this.#bytes = memory;
  }

  /** A part of what was written, as one buffer with the rest: must be copied or used up before more is written. */
  part(start: number, end: number): Buffer {
    return this.#bytes.subarray(start, end);
  }

  reserve(bytes: number): void {
    if (this.at + bytes <= this.#bytes.length) return;
    const size = Math.max(this.#bytes.length * 2, this.at + bytes);
    // What is used again is memory of its own.
    const grown = size < BYTES_FIRST ? Buffer.allocUnsafe(size) : Buffer.allocUnsafeSlow(size);
    this.#bytes.copy(grown, 0, 0, this.at);
    this.#bytes = grown;
  }

  skip(bytes: number): void {
    this.reserve(bytes);
    this.at += bytes;
  }

  number(value: number): void {
    if (this.at + 8 > this.#bytes.length) this.reserve(8);
    const bytes = this.#bytes;
    let rest = value;
    // Bits above the 31st are no business of the shift operators.
    while (rest >= 0x80) {
      bytes[this.at++] = (rest % 0x80) | 0x80;
      rest = rest < 0x8000_0000 ? rest >>> 7 : Math.floor(rest / 0x80);
    }
    bytes[this.at++] = rest;
  }

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.#bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  u64(value: bigint): void {
    this.reserve(8);
    if (IS_LITTLE_ENDIAN) {
      WIDE[0] = value;
      const bytes = this.#bytes;
      for (let byte = 0; byte < 8; byte++) bytes[this.at + byte] = WIDE_BYTES[byte] as number;
    } else this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.at);
    this.at += 8;
  }

  /** The same from its halves. */
  u64Of(high: number, low: number): void {
    this.reserve(8);
    this.#word(low);
    this.#word(high);
  }

  #word(word: number): void {
    const bytes = this.#bytes;
    bytes[this.at++] = word;
    bytes[this.at++] = word >>> 8;
    bytes[this.at++] = word >>> 16;
    bytes[this.at++] = word >>> 24;
  }

  /** A text in lower-case hex, as its bytes. */
  hex(bytes: Uint8Array, start: number, end: number): void {
    this.number((end - start) * 4 + 2);
    this.reserve(end - start);
    const to = this.#bytes;
    for (let at = start; at < end; at++) to[this.at++] = bytes[at] as number;
  }

  text(text: string, flag = false): void {
    const { length } = text;
    const start = this.at;
    const bit = flag ? 1 : 0;
    if (length > 0 && length <= SHORT_TEXT) {
      this.reserve(length + 8);
      if (length % 2 === 0) {
        this.number((length / 2) * 4 + 2 + bit);
        if (this.#hexDigits(text)) return;
        this.at = start;
      }
      this.number(length * 4 + bit);
      if (this.#asciiCharacters(text)) return;
      this.at = start;
    }
    const isHex = length > 0 && length % 2 === 0 && isHexText(text);
    const bytes = isHex ? length / 2 : Buffer.byteLength(text);
    this.number(bytes * 4 + (isHex ? 2 : 0) + bit);
    this.reserve(bytes);
    this.at += this.#bytes.write(text, this.at, isHex ? 'hex' : 'utf8');
  }

  /** False when it is not hex. */
  #hexDigits(text: string): boolean {
    const bytes = this.#bytes;
    let at = this.at;
    for (let index = 0; index < text.length; index += 2) {
      const high = hexValue(text.charCodeAt(index));
      const low = hexValue(text.charCodeAt(index + 1));
      if (high + low > 0x1e) return false;
      bytes[at++] = high * 16 + low;
    }
    this.at = at;
    return true;
  }

  /** False when it is not all ASCII. */
  #asciiCharacters(text: string): boolean {
    const bytes = this.#bytes;
    let at = this.at;
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return false;
      bytes[at++] = code;
    }
    this.at = at;
    return true;
  }
}

function hexValue(code: number): number {
  return code < 128 ? (HEX_VALUE[code] as number) : 0xff;
}

function isHexText(text: string): boolean {
  for (let index = 0; index < text.length; index++) if (hexValue(text.charCodeAt(index)) > 15) return false;
  return true;
}

/** Reads what JournalOutput wrote. */
export class JournalInput {
  readonly #bytes: Buffer;
  at = 0;
  /** The flag of the text that was read last. */
  flag = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined) throw new RangeError('the bytes end inside a number');
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  skip(bytes: number): void {
    this.at += bytes;
  }

  u64(): bigint {
    this.at += 8;
    return this.#bytes.readBigUInt64LE(this.at - 8);
  }

  text(): string {
    const head = this.number();
    const end = this.at + Math.floor(head / 4);
    this.flag = (head & 1) !== 0;
    const text = this.#bytes.toString((head & 2) !== 0 ? 'hex' : 'utf8', this.at, end);
    this.at = end;
    return text;
  }

  /** In place. */
  part(start: number, end: number): Buffer {
    return this.#bytes.subarray(start, end);
  }

  position(): FramePosition {
    return { segment: this.number(), offset: this.number() };
  }
}
