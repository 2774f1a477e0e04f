import type { Signal } from '../core/evidence.ts';
import { compileLooseKeys, type KeySet } from './key-set.ts';
import { maskAuthorization, maskQuery, STAR } from './mask-text.ts';
import { type Message, REQUESTS } from './schema.ts';
import { VALUE_TAG } from './value.ts';
import { VALUE_DEPTH_MAX, WIRE, WireCursor, WireError } from './wire.ts';

/**
 * What is secret. Names are compared without regard to case, and `-` equals `_`, because languages differ in how they name
 * captured headers. A name that ends in `*` is a prefix.
 */
export interface MaskSettings {
  /** Attribute keys, also of entries inside key-value lists. */
  readonly attributes: readonly string[];
  readonly queryParameters: readonly string[];
}

export interface Mask {
  readonly attributes: KeySet;
  /** `attributes` and URL_KEYS: whatever is not among these is looked at once only. */
  readonly noted: KeySet;
  readonly queryParameters: KeySet;
}

/** Attributes that hold a URL or a part of one. Only the values of secret query parameters and a password are masked. */
const URL_KEYS = ['url.query', 'url.full', 'http.target', 'http.url', 'http.request.header.referer'];

/** Attributes that hold credentials of HTTP: what says who it was stays, what proves it goes. */
const AUTHORIZATION = /authorization$/i;

export function compileMask(settings: MaskSettings): Mask {
  return {
    attributes: compileLooseKeys(settings.attributes),
    noted: compileLooseKeys([...settings.attributes, ...URL_KEYS]),
    queryParameters: compileLooseKeys(settings.queryParameters),
  };
}

/**
 * A part of a request on the way to attributes and values. When something in it cannot be decoded, then
 * - `unit`: its framing was checked by the scan and stays, its attributes and values are overwritten
 * - `whole`: all of it is overwritten
 * - `message`: so is the unit or whole around it
 */
interface Shape {
  readonly kind: 'unit' | 'whole' | 'message' | 'attribute' | 'value';
  /** By field number; only what leads to attributes and values. */
  readonly fields: (Shape | undefined)[];
}

const ATTRIBUTE: Shape = { kind: 'attribute', fields: [] };
const VALUE: Shape = { kind: 'value', fields: [] };
const WHOLE = /^(?:Resource|Scope|\w+Point)$/;
const INNER = /^(?:Event|Link|Exemplar)$/;

function shapeOf(message: Message): Shape {
  if (message.name === 'KeyValue') return ATTRIBUTE;
  if (message.name === 'AnyValue') return VALUE;
  const kind = WHOLE.test(message.name) ? 'whole' : INNER.test(message.name) ? 'message' : 'unit';
  const shape: Shape = { kind, fields: [] };
  for (const { number, type } of message.fields.values()) {
    if (typeof type === 'string' || 'names' in type) continue;
    const child = shapeOf(type);
    if (child.fields.length === 0 && child !== ATTRIBUTE && child !== VALUE) continue;
    while (shape.fields.length <= number) shape.fields.push(undefined);
    shape.fields[number] = child;
  }
  return shape;
}

const SHAPES: Readonly<Record<Signal, Shape>> = {
  traces: shapeOf(REQUESTS.traces),
  logs: shapeOf(REQUESTS.logs),
  metrics: shapeOf(REQUESTS.metrics),
};

/**
 * Telling what cannot be decoded takes an exception each time. From this many on in one request, a sender's fault or malice,
 * the rest is overwritten unread.
 */
const UNDECODABLE_MAX = 1000;

/**
 * Overwrites secrets in place, before anything reaches a disk: every masked byte becomes `*`, so lengths, framing and UTF-8
 * stay as they are; masked numbers become 0. Returns how many values were masked. Never throws: when an attribute or a body
 * cannot be decoded, all of them in that span, log record, resource or scope are overwritten, since nobody can tell what is
 * in them; and so is a payload that the scan would not have passed.
 */
export function maskSecrets(payload: Buffer, signal: Signal, mask: Mask): number {
  const masker = new Masker(payload, mask);
  try {
    masker.unit(payload.length, SHAPES[signal]);
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    payload.fill(STAR);
  }
  return masker.masked;
}

/**
 * What to do with a value:
 * - `search`: its key is not secret, but it may be a list with secret keys inside
 * - `all`: all text, bytes and numbers in it are secret
 * - `authorization`, `url`: parts of its text are secret
 */
type Mode = 'search' | 'all' | 'authorization' | 'url';

class Masker {
  masked = 0;
  #undecodable = 0;
  readonly #buffer: Buffer;
  readonly #mask: Mask;
  readonly #cursor: WireCursor;

  constructor(buffer: Buffer, mask: Mask) {
    this.#buffer = buffer;
    this.#mask = mask;
    this.#cursor = new WireCursor(buffer);
  }

  /** Masks the part of kind `unit` or `whole` from the cursor to `end`. */
  unit(end: number, shape: Shape): void {
    const start = this.#cursor.position;
    if (this.#undecodable < UNDECODABLE_MAX) {
      try {
        this.#fields(end, shape);
        return;
      } catch (thrown) {
        if (!(thrown instanceof WireError)) throw thrown;
        this.#undecodable++;
      }
    }
    this.#cursor.position = start;
    if (shape.kind === 'whole') this.#blank(end);
    else this.#blankFields(end, shape);
  }

  #fields(end: number, shape: Shape): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      const child = (tag & 7) === WIRE.delimited ? shape.fields[tag >>> 3] : undefined;
      if (child === undefined) {
        cursor.skip(tag, end);
        continue;
      }
      const childEnd = cursor.delimitedEnd(end);
      if (child.kind === 'unit' || child.kind === 'whole') this.unit(childEnd, child);
      else if (child.kind === 'message') this.#fields(childEnd, child);
      else if (child.kind === 'value') this.#value(childEnd, 'search', 0);
      else if (this.#isHarmless(childEnd)) cursor.position = childEnd;
      else this.#attribute(childEnd, 'search', 0);
    }
  }

  /** Masks the KeyValue from the cursor to `end`. The key may stand behind the value; of several keys the last counts. */
  #attribute(end: number, outer: Mode, depth: number): void {
    const cursor = this.#cursor;
    const start = cursor.position;
    let keyStart = start;
    let keyEnd = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== VALUE_TAG.key) {
        cursor.skip(tag, end);
        continue;
      }
      keyEnd = cursor.delimitedEnd(end);
      keyStart = cursor.position;
      cursor.position = keyEnd;
    }
    const inSecret = outer === 'all' || outer === 'authorization';
    const mode = inSecret ? 'all' : this.#modeOf(keyStart, keyEnd);
    cursor.position = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.value) this.#value(cursor.delimitedEnd(end), mode, depth);
      else cursor.skip(tag, end);
    }
  }

  #modeOf(keyStart: number, keyEnd: number): Mode {
    if (this.#mask.noted.match(this.#buffer, keyStart, keyEnd) === undefined) return 'search';
    if (this.#mask.attributes.match(this.#buffer, keyStart, keyEnd) === undefined) return 'url';
    return AUTHORIZATION.test(this.#buffer.toString('latin1', keyStart, keyEnd)) ? 'authorization' : 'all';
  }

  /**
   * Is the KeyValue from the cursor to `end` written the way nearly every sender writes it, a short key, then one short text
   * or number to the end, and is its key not one of ours? Then nothing is to be done.
   */
  #isHarmless(end: number): boolean {
    const bytes = this.#buffer;
    const start = this.#cursor.position;
    const keyEnd = start + 2 + (bytes[start + 1] as number);
    const contentStart = keyEnd + 3;
    if (contentStart >= end || bytes[start] !== VALUE_TAG.key || (bytes[start + 1] as number) >= 0x80) return false;
    const length = bytes[keyEnd + 1] as number;
    if (bytes[keyEnd] !== VALUE_TAG.value || length >= 0x80 || keyEnd + 2 + length !== end) return false;
    switch (bytes[keyEnd + 2]) {
      case VALUE_TAG.string:
        if (contentStart + 1 + (bytes[contentStart] as number) !== end) return false;
        break;
      case VALUE_TAG.bool:
      case VALUE_TAG.int:
        for (let at = contentStart; at < end - 1; at++) if ((bytes[at] as number) < 0x80) return false;
        break;
      default:
        return false;
    }
    return this.#mask.noted.match(bytes, start + 2, keyEnd) === undefined;
  }

  /** Masks the AnyValue from the cursor to `end`, or the list that is one: its items are AnyValues or KeyValues. */
  #value(end: number, mode: Mode, depth: number): void {
    const cursor = this.#cursor;
    if (depth > VALUE_DEPTH_MAX) throw new WireError(cursor.position, 'values are nested too deeply');
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      const start = cursor.position;
      if (tag === VALUE_TAG.array || tag === VALUE_TAG.keyValues) {
        this.#list(cursor.delimitedEnd(end), tag, mode, depth + 1);
        continue;
      }
      cursor.skip(tag, end);
      if (mode === 'search') continue;
      if (tag === VALUE_TAG.string || tag === VALUE_TAG.bytes) {
        const contentEnd = cursor.position;
        cursor.position = start;
        cursor.delimitedEnd(end);
        this.#text(cursor.position, contentEnd, mode);
        cursor.position = contentEnd;
      } else if (mode === 'all' && (tag === VALUE_TAG.int || tag === VALUE_TAG.double)) {
        this.#number(start, cursor.position, tag);
      }
    }
  }

  #list(end: number, listTag: number, mode: Mode, depth: number): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== VALUE_TAG.item) cursor.skip(tag, end);
      else if (listTag === VALUE_TAG.array) this.#value(cursor.delimitedEnd(end), mode, depth);
      else this.#attribute(cursor.delimitedEnd(end), mode, depth);
    }
  }

  #text(start: number, end: number, mode: Mode): void {
    if (start === end) return;
    if (mode === 'url') this.masked += maskQuery(this.#buffer, start, end, this.#mask.queryParameters) ? 1 : 0;
    else if (mode === 'authorization') this.masked += maskAuthorization(this.#buffer, start, end) ? 1 : 0;
    else {
      this.#buffer.fill(STAR, start, end);
      this.masked++;
    }
  }

  /** Zero in as many bytes: a varint may be padded with continuation bytes. */
  #number(start: number, end: number, tag: number): void {
    this.#buffer.fill(tag === VALUE_TAG.int ? 0x80 : 0, start, end);
    this.#buffer[end - 1] = 0;
    this.masked++;
  }

  #blankFields(end: number, shape: Shape): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      const child = (tag & 7) === WIRE.delimited ? shape.fields[tag >>> 3] : undefined;
      if (child === undefined) {
        cursor.skip(tag, end);
        continue;
      }
      const childEnd = cursor.delimitedEnd(end);
      if (child.kind === 'unit' || child.kind === 'whole') this.unit(childEnd, child);
      else this.#blank(childEnd);
    }
  }

  #blank(end: number): void {
    this.#buffer.fill(STAR, this.#cursor.position, end);
    this.#cursor.position = end;
    this.masked++;
  }
}
