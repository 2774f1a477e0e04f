import type { FramePosition } from './segment-format.ts';

const HEX = /^(?:[0-9a-f]{2})+$/;

/** Bytes that grow as they are written. */
export class JournalOutput {
  #bytes: Buffer;
  at = 0;

  constructor(expectedBytes = 16 * 1024) {
    this.#bytes = Buffer.allocUnsafe(expectedBytes);
  }

  /** A part of what was written, as one buffer with the rest: must be copied or used up before more is written. */
  part(start: number, end: number): Buffer {
    return this.#bytes.subarray(start, end);
  }

  reserve(bytes: number): void {
    if (this.at + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.at + bytes));
    this.#bytes.copy(grown, 0, 0, this.at);
    this.#bytes = grown;
  }

  skip(bytes: number): void {
    this.reserve(bytes);
    this.at += bytes;
  }

  number(value: number): void {
    this.reserve(8);
    let rest = value;
    // Bits above the 31st are no business of the shift operators.
    while (rest >= 0x80) {
      this.#bytes[this.at++] = (rest % 0x80) | 0x80;
      rest = rest < 0x8000_0000 ? rest >>> 7 : Math.floor(rest / 0x80);
    }
    this.#bytes[this.at++] = rest;
  }

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.#bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  u64(value: bigint): void {
    this.reserve(8);
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.at);
    this.at += 8;
  }

  text(text: string, flag = false): void {
    const isHex = HEX.test(text);
    const bytes = isHex ? text.length / 2 : Buffer.byteLength(text);
    this.number(bytes * 4 + (isHex ? 2 : 0) + (flag ? 1 : 0));
    this.reserve(bytes);
    this.at += this.#bytes.write(text, this.at, isHex ? 'hex' : 'utf8');
  }
}

/** Reads what JournalOutput wrote. */
export class JournalInput {
  readonly #bytes: Buffer;
  at = 0;
  /** The flag of the text that was read last. */
  flag = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.#bytes.readUInt8(this.at++);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
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
