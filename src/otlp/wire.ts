/**
 * Reading the protobuf wire format (protobuf.dev, "Encoding") without a schema compiler: varints, tags, lengths, skipping
 * what is unknown. Everything here reads in place; nothing is copied.
 */

export const WIRE = { varint: 0, fixed64: 1, delimited: 2, startGroup: 3, endGroup: 4, fixed32: 5 } as const;

/** Longest legal varint: 64 bits in groups of seven. Senders may pad shorter values with continuation bytes up to it. */
const VARINT_BYTES_MAX = 10;

export const TRACE_ID_BYTES = 16;
export const SPAN_ID_BYTES = 8;

/** Groups inside groups that are skipped as unknown. Protobuf's own parsers stop at 100 nested messages. */
const GROUP_DEPTH_MAX = 100;

/**
 * Values inside values (arrays, key-value lists). Protobuf's own parsers stop at 100 nested messages, which is 33 lists of
 * key-values; this stays below so that recursion over a value is safe everywhere.
 */
export const VALUE_DEPTH_MAX = 32;

/** What a list reads as that is nested deeper. */
export const NESTED_TOO_DEEP = '[nested too deep]';

/** The bytes are not the protobuf message they should be. `offset` is where in the payload that showed. */
export class WireError extends Error {
  readonly offset: number;

  constructor(offset: number, message: string) {
    super(message);
    this.name = 'WireError';
    this.offset = offset;
  }
}

/**
 * A position in a payload. `end` arguments are the exclusive end of the message being read: nothing is read at or beyond it.
 * Methods throw WireError on bytes that no protobuf encoder may write.
 */
export class WireCursor {
  readonly bytes: Uint8Array;
  position = 0;
  /** The last varint that was longer than a byte, as two unsigned halves. */
  #low = 0;
  #high = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Field number × 8 + wire type. */
  tag(end: number): number {
    const at = this.position;
    const first = at < end ? (this.bytes[at] as number) : 0x80;
    if (first < 0x80 && first > 7) {
      this.position = at + 1;
      return first;
    }
    this.#readLong(end);
    if (this.#high !== 0 || this.#low < 8) throw new WireError(at, 'the field number is out of range');
    return this.#low;
  }

  /** Reads the length of a delimited field; the position is then the start of its content, the result its end. */
  delimitedEnd(end: number): number {
    const at = this.position;
    let length = at < end ? (this.bytes[at] as number) : 0x80;
    if (length < 0x80) this.position = at + 1;
    else {
      this.#readLong(end);
      length = this.#high === 0 ? this.#low : Number.POSITIVE_INFINITY;
    }
    const contentEnd = this.position + length;
    if (contentEnd > end) throw new WireError(at, 'a length reaches beyond the end of its message');
    return contentEnd;
  }

  /** Low 32 bits of a varint, signed: int32 and enum fields. */
  int32(end: number): number {
    this.#readLong(end);
    return this.#low | 0;
  }

  bool(end: number): boolean {
    this.#readLong(end);
    return this.#low !== 0 || this.#high !== 0;
  }

  /** A signed 64-bit varint: a number where it is exact, else a bigint. */
  int64(end: number): number | bigint {
    this.#readLong(end);
    const value = (this.#high | 0) * 0x1_0000_0000 + this.#low;
    return Number.isSafeInteger(value) ? value : BigInt.asIntN(64, (BigInt(this.#high) << 32n) | BigInt(this.#low));
  }

  /** Steps over a delimited id and returns where it is, or -1 when its length is not `size` or it is all zero. */
  validId(size: number, end: number): number {
    const contentEnd = this.delimitedEnd(end);
    const at = this.position;
    this.position = contentEnd;
    if (contentEnd - at !== size) return -1;
    for (let index = at; index < contentEnd; index++) if (this.bytes[index] !== 0) return at;
    return -1;
  }

  /** Steps over a fixed field of 4 or 8 bytes and returns where it starts. */
  fixed(size: number, end: number): number {
    const at = this.position;
    if (at + size > end) throw new WireError(at, 'a fixed-size field reaches beyond the end of its message');
    this.position = at + size;
    return at;
  }

  /** Steps over the content of the field whose tag was just read. */
  skip(tag: number, end: number): void {
    switch (tag & 7) {
      case WIRE.varint:
        this.#readLong(end);
        break;
      case WIRE.fixed64:
        this.fixed(8, end);
        break;
      case WIRE.delimited:
        this.position = this.delimitedEnd(end);
        break;
      case WIRE.startGroup:
        this.#skipGroup(tag >>> 3, end, 1);
        break;
      case WIRE.fixed32:
        this.fixed(4, end);
        break;
      default:
        throw new WireError(this.position, `wire type ${tag & 7} is not expected here`);
    }
  }

  #skipGroup(field: number, end: number, depth: number): void {
    if (depth > GROUP_DEPTH_MAX) throw new WireError(this.position, 'groups are nested too deeply');
    for (;;) {
      const tag = this.tag(end);
      if ((tag & 7) === WIRE.startGroup) this.#skipGroup(tag >>> 3, end, depth + 1);
      else if ((tag & 7) !== WIRE.endGroup) this.skip(tag, end);
      else if (tag >>> 3 === field) return;
      else throw new WireError(this.position, 'a group ends that is not open');
    }
  }

  /** Reads any varint into the two halves. Bits beyond the 64th are dropped, as protobuf's own parsers do. */
  #readLong(end: number): void {
    const start = this.position;
    const last = Math.min(end, start + VARINT_BYTES_MAX);
    let low = 0;
    let high = 0;
    for (let at = start; at < last; at++) {
      const byte = this.bytes[at] as number;
      const shift = (at - start) * 7;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else if (shift < 63) high |= bits << (shift - 32);
      else high |= bits << 31;
      if (byte < 0x80) {
        this.position = at + 1;
        this.#low = low >>> 0;
        this.#high = high >>> 0;
        return;
      }
    }
    throw new WireError(start, last < start + VARINT_BYTES_MAX ? 'the message is cut short' : 'a varint is too long');
  }
}
