import { WIRE } from './wire.ts';

const FIRST_BYTES = 1024;

/**
 * Writes one protobuf message into a buffer that grows. Lengths and field numbers are written in their shortest form, and
 * fields in the order of the calls. Field numbers are below 2^28.
 */
export class WireWriter {
  #buffer = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  /** What was written so far. The writer must not be used afterwards. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** An integer field: int32, int64, uint64, bool or enum. Negative numbers take ten bytes, as protobuf asks. */
  integer(field: number, value: number | bigint): void {
    this.#tag(field, WIRE.varint);
    this.#varint(value);
  }

  fixed64(field: number, value: bigint): void {
    this.#tag(field, WIRE.fixed64);
    this.#reserve(8);
    this.#length = this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.#length);
  }

  fixed32(field: number, value: number): void {
    this.#tag(field, WIRE.fixed32);
    this.#reserve(4);
    this.#length = this.#buffer.writeUInt32LE(value >>> 0, this.#length);
  }

  double(field: number, value: number): void {
    this.#tag(field, WIRE.fixed64);
    this.#reserve(8);
    this.#length = this.#buffer.writeDoubleLE(value, this.#length);
  }

  text(field: number, value: string): void {
    const bytes = Buffer.byteLength(value);
    this.#delimited(field, bytes);
    this.#length += this.#buffer.write(value, this.#length);
  }

  bytes(field: number, value: Uint8Array): void {
    this.#delimited(field, value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  /** An embedded message of what `write` writes. */
  message(field: number, write: () => void): void {
    this.#delimited(field, 0);
    const start = this.#length;
    write();
    const length = this.#length - start;
    if (length < 0x80) {
      this.#buffer[start - 1] = length;
      return;
    }
    // One byte was kept for the length. Make room for the others.
    const more = varintBytes(length) - 1;
    this.#reserve(more);
    this.#buffer.copyWithin(start + more, start, this.#length);
    this.#length = start - 1;
    this.#varint(length);
    this.#length += length;
  }

  #tag(field: number, wireType: number): void {
    this.#varint(field * 8 + wireType);
  }

  #delimited(field: number, bytes: number): void {
    this.#tag(field, WIRE.delimited);
    this.#varint(bytes);
    this.#reserve(bytes);
  }

  #varint(value: number | bigint): void {
    this.#reserve(10);
    let rest = value;
    if (typeof rest === 'bigint' || rest < 0 || rest > 0x7fff_ffff) {
      let wide = BigInt.asUintN(64, BigInt(rest));
      for (; wide > 0x7fn; wide >>= 7n) this.#buffer[this.#length++] = Number(wide & 0x7fn) | 0x80;
      rest = Number(wide);
    }
    for (; rest > 0x7f; rest >>>= 7) this.#buffer[this.#length++] = (rest & 0x7f) | 0x80;
    this.#buffer[this.#length++] = rest;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}

function varintBytes(value: number): number {
  return Math.ceil((32 - Math.clz32(value)) / 7);
}
