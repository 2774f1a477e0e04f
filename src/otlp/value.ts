import type { AttributeValue } from '../core/evidence.ts';
import type { KeySet } from './key-set.ts';
import { cachedText } from './text-cache.ts';
import { partEnd, partStart } from './usual-fields.ts';
import { NESTED_TOO_DEEP, VALUE_DEPTH_MAX, WIRE, WireCursor, WireError } from './wire.ts';

/** Tags of AnyValue, ArrayValue, KeyValueList and KeyValue in opentelemetry-proto's common.proto. */
export const VALUE_TAG = {
  string: (1 << 3) | WIRE.delimited,
  bool: (2 << 3) | WIRE.varint,
  int: (3 << 3) | WIRE.varint,
  double: (4 << 3) | WIRE.fixed64,
  array: (5 << 3) | WIRE.delimited,
  keyValues: (6 << 3) | WIRE.delimited,
  bytes: (7 << 3) | WIRE.delimited,
  /** ArrayValue.values and KeyValueList.values. */
  item: (1 << 3) | WIRE.delimited,
  key: (1 << 3) | WIRE.delimited,
  value: (2 << 3) | WIRE.delimited,
} as const;

/** What attributes are read into. */
export interface AttributeSink {
  set(key: string, value: AttributeValue): unknown;
}

/** What an AnyValue without a value, and a KeyValue without an AnyValue, reads as. */
export const EMPTY_VALUE = '';

/**
 * Decodes attributes and values of one payload. Malformed content throws WireError; a list nested too deeply is not looked
 * into. Text that is not UTF-8 gets replacement
 * characters; of equal keys the last counts.
 */
export class ValueReader {
  readonly cursor: WireCursor;
  readonly #buffer: Buffer;
  readonly view: DataView;
  /** The KeyValue that was located last. */
  #keyStart = 0;
  #keyEnd = 0;
  #valueStart = 0;
  #valueEnd = 0;
  #valueCount = 0;
  /** Tag of the oneof member that the value read last holds. */
  kind = 0;
  attributeStart = 0;

  constructor(payload: Uint8Array) {
    const { buffer, byteOffset, byteLength } = payload;
    this.cursor = new WireCursor(payload);
    this.#buffer = Buffer.from(buffer, byteOffset, byteLength);
    this.view = new DataView(buffer, byteOffset, byteLength);
  }

  /** Reads the delimited field at the cursor as text. */
  text(end: number): string {
    const contentEnd = this.cursor.delimitedEnd(end);
    const text = cachedText(this.#buffer, this.cursor.position, contentEnd);
    this.cursor.position = contentEnd;
    return text;
  }

  /** Reads the delimited field at the cursor as an id in hex; empty when its length is wrong or it is all zero. */
  id(size: number, end: number): string {
    const at = this.cursor.validId(size, end);
    return at < 0 ? '' : this.hex(at, size);
  }

  hex(start: number, size: number): string {
    return this.#buffer.toString('hex', start, start + size);
  }

  /** The bytes themselves, not a copy. */
  bytes(start: number, end: number): Buffer {
    return this.#buffer.subarray(start, end);
  }

  fixed64(end: number): bigint {
    return this.view.getBigUint64(this.cursor.fixed(8, end), true);
  }

  fixed32(end: number): number {
    return this.view.getUint32(this.cursor.fixed(4, end), true);
  }

  /**
   * Reads the KeyValue field at the cursor into the map when its key is wanted. One whose length is right but that cannot be
   * decoded is left out: then the answer is false.
   */
  attribute(end: number, keys: KeySet, into: AttributeSink): boolean {
    const cursor = this.cursor;
    const contentEnd = cursor.delimitedEnd(end);
    const start = cursor.position;
    try {
      this.#locate(contentEnd);
      const key = keys.find(this.#buffer, this.view, this.#keyStart, this.#keyEnd);
      if (key !== undefined) into.set(key, this.#locatedValue(start, contentEnd, 0));
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      cursor.position = contentEnd;
      return false;
    }
    cursor.position = contentEnd;
    return true;
  }

  /**
   * Steps over the KeyValue field at the cursor: its key when that is wanted, null when not, undefined when it is not written in the
   * usual way. Its content is from `attributeStart` to the cursor.
   */
  peekAttribute(end: number, keys: KeySet): string | null | undefined {
    const contentEnd = this.cursor.delimitedEnd(end);
    this.attributeStart = this.cursor.position;
    if (!this.#locateUsual(contentEnd)) return undefined;
    this.cursor.position = contentEnd;
    return keys.find(this.#buffer, this.view, this.#keyStart, this.#keyEnd) ?? null;
  }

  /** The value of the KeyValue from the cursor to `end` that was peeked at; as `attribute` for one that cannot be decoded. */
  peekedValue(end: number, key: string, into: AttributeSink): boolean {
    const { cursor } = this;
    this.#locateUsual(end);
    cursor.position = this.#valueStart;
    try {
      into.set(key, this.value(end));
      return true;
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      return false;
    }
  }

  /** Reads the AnyValue from the cursor to `end`. `depth` counts the lists around it. */
  value(end: number, depth = 0): AttributeValue {
    return this.continueValue(end, depth, 0, EMPTY_VALUE);
  }

  /**
   * The value is a oneof: its last member counts, but a list that is given again is continued, also when the message was
   * split in two. `kind` and `value` are what stood before; the kind at the end is left in `kind`.
   */
  continueValue(end: number, depth: number, kind: number, value: AttributeValue): AttributeValue {
    const cursor = this.cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (depth === VALUE_DEPTH_MAX && (tag === VALUE_TAG.array || tag === VALUE_TAG.keyValues)) {
        cursor.position = cursor.delimitedEnd(end);
        value = NESTED_TOO_DEEP;
        kind = VALUE_TAG.string;
        continue;
      }
      switch (tag) {
        case VALUE_TAG.string:
          value = this.text(end);
          break;
        case VALUE_TAG.bool:
          value = cursor.bool(end);
          break;
        case VALUE_TAG.int:
          value = cursor.int64(end);
          break;
        case VALUE_TAG.double:
          value = finite(this.view.getFloat64(cursor.fixed(8, end), true));
          break;
        case VALUE_TAG.array:
          value = this.#array(cursor.delimitedEnd(end), depth + 1, kind === tag ? (value as AttributeValue[]) : []);
          break;
        case VALUE_TAG.keyValues:
          value = this.#object(cursor.delimitedEnd(end), depth + 1, kind === tag ? (value as ValueObject) : {});
          break;
        case VALUE_TAG.bytes:
          value = this.#base64(end);
          break;
        default:
          cursor.skip(tag, end);
          continue;
      }
      kind = tag;
    }
    this.kind = kind;
    return value;
  }

  #array(end: number, depth: number, list: AttributeValue[]): AttributeValue[] {
    const cursor = this.cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.item) list.push(this.value(cursor.delimitedEnd(end), depth));
      else cursor.skip(tag, end);
    }
    return list;
  }

  #object(end: number, depth: number, object: ValueObject): ValueObject {
    const cursor = this.cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== VALUE_TAG.item) {
        cursor.skip(tag, end);
        continue;
      }
      const itemEnd = cursor.delimitedEnd(end);
      const itemStart = cursor.position;
      this.#locate(itemEnd);
      const key = cachedText(this.#buffer, this.#keyStart, this.#keyEnd);
      setOwn(object, key, this.#locatedValue(itemStart, itemEnd, depth));
      cursor.position = itemEnd;
    }
    return object;
  }

  #base64(end: number): string {
    const contentEnd = this.cursor.delimitedEnd(end);
    const text = this.#buffer.toString('base64', this.cursor.position, contentEnd);
    this.cursor.position = contentEnd;
    return text;
  }

  /** Finds key and value of the KeyValue from the cursor to `end`. */
  #locate(end: number): void {
    if (!this.#locateUsual(end)) this.#locateAny(end);
  }

  /** The way nearly every sender writes it: a short key, then a value to the end. */
  #locateUsual(end: number): boolean {
    const bytes = this.cursor.bytes;
    const at = this.cursor.position;
    if (end - at < 4 || bytes[at] !== VALUE_TAG.key) return false;
    const keyEnd = at + 2 + (bytes[at + 1] as number);
    if ((bytes[at + 1] as number) >= 0x80 || keyEnd + 2 > end || bytes[keyEnd] !== VALUE_TAG.value) return false;
    if (partEnd(bytes, keyEnd + 1) !== end) return false;
    this.#keyStart = at + 2;
    this.#keyEnd = keyEnd;
    this.#valueStart = partStart(bytes, keyEnd + 1);
    this.#valueEnd = end;
    this.#valueCount = 1;
    return true;
  }

  #locateAny(end: number): void {
    const cursor = this.cursor;
    this.#keyStart = this.#keyEnd = this.#valueStart = this.#valueEnd = cursor.position;
    this.#valueCount = 0;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.key) {
        this.#keyEnd = cursor.delimitedEnd(end);
        this.#keyStart = cursor.position;
        cursor.position = this.#keyEnd;
      } else if (tag === VALUE_TAG.value) {
        this.#valueEnd = cursor.delimitedEnd(end);
        this.#valueStart = cursor.position;
        this.#valueCount++;
        cursor.position = this.#valueEnd;
      } else cursor.skip(tag, end);
    }
  }

  /** The value of the KeyValue that was just located between `start` and `end`, merged when it was given in parts. */
  #locatedValue(start: number, end: number, depth: number): AttributeValue {
    const cursor = this.cursor;
    if (this.#valueCount < 2) {
      cursor.position = this.#valueStart;
      return this.value(this.#valueEnd, depth);
    }
    cursor.position = start;
    let value: AttributeValue = EMPTY_VALUE;
    this.kind = 0;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.value) value = this.continueValue(cursor.delimitedEnd(end), depth, this.kind, value);
      else cursor.skip(tag, end);
    }
    return value;
  }
}

type ValueObject = { [key: string]: AttributeValue };

/** Plain assignment, but a key named `__proto__` is a key like any other. */
function setOwn(object: ValueObject, key: string, value: AttributeValue): void {
  if (key !== '__proto__') object[key] = value;
  else Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}

function finite(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}
