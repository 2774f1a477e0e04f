import type { Signal } from '../core/evidence.ts';
import { headerNameStart, modeOfHeader } from './header-keys.ts';
import { Hints, QUOTE_HINTS, TEXT_HINTS, TOKEN_HINTS } from './hints.ts';
import { compileLooseKeys, type KeySet } from './key-set.ts';
import { maskJson } from './mask-json.ts';
import {
  fill,
  maskAuthorization,
  maskParameters,
  maskSignature,
  maskSignatures,
  maskToken,
  maskUrlPasswords,
  STAR,
} from './mask-text.ts';
import { type Message, REQUESTS } from './schema.ts';
import { SecretNames } from './secret-names.ts';
import { cachedText } from './text-cache.ts';
import { VALUE_TAG } from './value.ts';
import { VALUE_DEPTH_MAX, WIRE, WireCursor, WireError } from './wire.ts';

/**
 * What is secret. Names are compared without regard to case, and `-` equals `_`, because languages differ in how they name
 * captured headers.
 */
export interface MaskSettings {
  /** Attribute keys, also of entries inside key-value lists and in JSON. A key that ends in `*` is a prefix. */
  readonly attributes: readonly string[];
  /** Patterns in which `*` stands for any characters. */
  readonly queryParameters: readonly string[];
}

export interface Mask {
  readonly attributes: KeySet;
  /** `attributes` and URL_KEYS: whatever is not among these is looked at once only. */
  readonly noted: KeySet;
  readonly queryParameters: SecretNames;
}

/** Attributes that hold a URL or a part of one. */
const URL_KEYS = ['url.query', 'url.full', 'http.target', 'http.url', 'http.request.header.referer'];

/** Attributes that hold credentials of HTTP: what says who it was stays, what proves it goes. */
const AUTHORIZATION = /authorization$/i;

export function compileMask(settings: MaskSettings): Mask {
  return {
    attributes: compileLooseKeys(settings.attributes),
    noted: compileLooseKeys([...settings.attributes, ...URL_KEYS]),
    queryParameters: new SecretNames(settings.queryParameters),
  };
}

/**
 * A part of a request on the way to attributes, values and texts. When something in it cannot be decoded, then
 * - `unit`: its framing was checked by the scan and stays, its attributes, values and texts are overwritten
 * - any other: all of it is overwritten, what is around it stays
 */
interface Shape {
  readonly kind: 'unit' | 'whole' | 'attribute' | 'value' | 'text';
  /** By field number; only what leads to attributes, values and texts. */
  readonly fields: (Shape | undefined)[];
}

const ATTRIBUTE: Shape = { kind: 'attribute', fields: [] };
const VALUE: Shape = { kind: 'value', fields: [] };
const TEXT: Shape = { kind: 'text', fields: [] };
const WHOLE = /^(?:Resource|Scope|Event|Link|Status|Exemplar|\w+Point)$/;
/** Texts into which instrumentations write addresses and errors. */
const TEXTS: ReadonlySet<string> = new Set(['Span.name', 'Event.name', 'Status.message']);

function shapeOf(message: Message): Shape {
  if (message.name === 'KeyValue') return ATTRIBUTE;
  if (message.name === 'AnyValue') return VALUE;
  const shape: Shape = { kind: WHOLE.test(message.name) ? 'whole' : 'unit', fields: [] };
  for (const [name, { number, type }] of message.fields) {
    const isText = TEXTS.has(`${message.name}.${name}`);
    if (!isText && (typeof type === 'string' || 'names' in type)) continue;
    const child = isText ? TEXT : shapeOf(type as Message);
    if (child.kind === 'unit' && child.fields.length === 0) continue;
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

/** The first letter of every JSON Web Token: `{` in base64. */
const LETTER_E = 0x65;

/** Header, claims and signature of the shortest JSON Web Tokens. */
const TOKEN_BYTES_MIN = 60;

/** Of a delimited field that lists of values do not have. */
const UNKNOWN_TAG = (15 << 3) | WIRE.delimited;

/**
 * Telling what cannot be decoded takes an exception each time. From this many on in one request, a sender's fault or malice,
 * the rest is overwritten unread.
 */
const UNDECODABLE_MAX = 1000;

/**
 * Overwrites secrets in place, before anything reaches a disk: every masked byte becomes `*`, so lengths, framing and UTF-8
 * stay as they are; masked numbers become 0. Returns how many values were masked. Never throws: an attribute, a body or a
 * resource that cannot be decoded is overwritten as a whole, since nobody can tell what is in it; and so is a payload that
 * the scan would not have passed.
 */
export function maskSecrets(payload: Buffer, signal: Signal, mask: Mask): number {
  const masker = new Masker(payload, mask);
  try {
    masker.part(payload.length, SHAPES[signal]);
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    payload.fill(STAR);
  }
  return masker.masked;
}

/**
 * What to do with a value:
 * - `search`: its key is not secret, but there may be secret keys, parameters or tokens inside
 * - `body`: the same, and there may be JSON anywhere in it
 * - `header`: the same as `search`, and it may be a token
 * - `url`: the same as `search`, and it is a URL or a part of one
 * - `authorization`, `token`: only what says who it was is not secret
 * - `all`: all text, bytes and numbers in it are secret
 */
type Mode = 'search' | 'body' | 'header' | 'url' | 'authorization' | 'token' | 'all';

class Masker {
  masked = 0;
  #undecodable = 0;
  readonly #buffer: Buffer;
  readonly #mask: Mask;
  readonly #cursor: WireCursor;
  /** Of what may be secret in a text. */
  readonly #hints: Hints;
  readonly #tokens: Hints;
  readonly #quotes: Hints;

  constructor(buffer: Buffer, mask: Mask) {
    this.#buffer = buffer;
    this.#mask = mask;
    this.#cursor = new WireCursor(buffer);
    this.#hints = new Hints(buffer, TEXT_HINTS);
    this.#tokens = new Hints(buffer, TOKEN_HINTS);
    this.#quotes = new Hints(buffer, QUOTE_HINTS);
  }

  /** Masks the part from the cursor to `end`. Throws only when it is a unit. */
  part(end: number, shape: Shape): void {
    const start = this.#cursor.position;
    if (this.#undecodable < UNDECODABLE_MAX) {
      try {
        if (shape.kind === 'attribute') this.#attribute(end, 'search', 0);
        else if (shape.kind === 'value') this.#value(end, 'body', 0);
        else this.#fields(end, shape);
        return;
      } catch (thrown) {
        if (!(thrown instanceof WireError)) throw thrown;
        this.#undecodable++;
      }
    }
    this.#cursor.position = start;
    if (shape.kind === 'unit') this.#blankFields(end, shape);
    else this.#blank(end);
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
      if (child.kind === 'attribute' && this.#isHarmless(childEnd)) cursor.position = childEnd;
      else if (child.kind === 'text') {
        this.#text(cursor.position, childEnd, 'search');
        cursor.position = childEnd;
      } else this.part(childEnd, child);
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
    const inSecret = outer === 'all' || outer === 'authorization' || outer === 'token';
    const mode = inSecret ? 'all' : this.#modeOf(keyStart, keyEnd);
    cursor.position = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.value) this.#value(cursor.delimitedEnd(end), mode, depth);
      else cursor.skip(tag, end);
    }
  }

  #modeOf(keyStart: number, keyEnd: number): Mode {
    const { noted, attributes } = this.#mask;
    if (noted.match(this.#buffer, keyStart, keyEnd) === undefined) {
      const nameStart = headerNameStart(this.#buffer, keyStart, keyEnd);
      return nameStart < 0 ? 'search' : modeOfHeader(cachedText(this.#buffer, nameStart, keyEnd));
    }
    if (attributes.match(this.#buffer, keyStart, keyEnd) === undefined) return 'url';
    return AUTHORIZATION.test(this.#buffer.toString('latin1', keyStart, keyEnd)) ? 'authorization' : 'all';
  }

  /**
   * Is the KeyValue from the cursor to `end` written the way nearly every sender writes it, a short key, then one short text
   * or number to the end, does nothing in it hint at a secret, and is its key not one of ours? Then nothing is to be done.
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
        if (this.#isSuspicious(contentStart + 1, end)) return false;
        break;
      case VALUE_TAG.bool:
      case VALUE_TAG.int:
        for (let at = contentStart; at < end - 1; at++) if ((bytes[at] as number) < 0x80) return false;
        break;
      default:
        return false;
    }
    return (
      headerNameStart(bytes, start + 2, keyEnd) < 0 && this.#mask.noted.match(bytes, start + 2, keyEnd) === undefined
    );
  }

  /** Masks the AnyValue from the cursor to `end`, or the list that is one: its items are AnyValues or KeyValues. */
  #value(end: number, mode: Mode, depth: number): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      const start = cursor.position;
      if (tag === VALUE_TAG.array || tag === VALUE_TAG.keyValues) {
        const listEnd = cursor.delimitedEnd(end);
        if (depth < VALUE_DEPTH_MAX) this.#list(listEnd, tag, mode, depth + 1);
        else this.#blankList(listEnd);
        continue;
      }
      cursor.skip(tag, end);
      if (tag === VALUE_TAG.string || tag === VALUE_TAG.bytes) {
        const contentEnd = cursor.position;
        cursor.position = start;
        cursor.delimitedEnd(end);
        this.#text(cursor.position, contentEnd, mode);
        cursor.position = contentEnd;
      } else if ((mode === 'all' || mode === 'token') && (tag === VALUE_TAG.int || tag === VALUE_TAG.double)) {
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
    const isProof = mode === 'all' || mode === 'authorization' || mode === 'token';
    const hasHint = isProof || this.#hints.within(start, end);
    const hasToken = isProof || (end - start >= TOKEN_BYTES_MIN && this.#tokens.within(start, end));
    const hasJson = beginsJson(this.#buffer[start]) || (mode === 'body' && this.#quotes.within(start, end));
    const isToken = mode === 'header' && this.#buffer[start] === LETTER_E;
    if (!hasHint && !hasToken && !hasJson && !isToken && mode !== 'url') return;
    const text = this.#buffer.subarray(start, end);
    let masked = false;
    if (mode === 'all') masked = fill(text, 0, text.length);
    else if (mode === 'authorization') masked = maskAuthorization(text);
    else if (mode === 'token') masked = maskToken(text);
    else {
      if (mode === 'header') masked = maskSignature(text) ?? false;
      if (hasJson) masked = this.#json(text) || masked;
      if (hasHint) masked = maskUrlPasswords(text) || masked;
      // The first name in a URL's query stands behind nothing that would hint at it.
      if (hasHint || mode === 'url') {
        masked = maskParameters(text, this.#mask.queryParameters, mode === 'url') || masked;
      }
      if (hasToken) masked = maskSignatures(text) || masked;
    }
    if (masked) this.masked++;
  }

  /** May there be a secret in the text of a key that is not secret? */
  #isSuspicious(start: number, end: number): boolean {
    return (
      this.#hints.within(start, end) ||
      (end - start >= TOKEN_BYTES_MIN && this.#tokens.within(start, end)) ||
      beginsJson(this.#buffer[start])
    );
  }

  #json(text: Buffer): boolean {
    return maskJson(text, (nameStart, nameEnd) => {
      if (this.#mask.attributes.match(text, nameStart, nameEnd) === undefined) return undefined;
      const isAuthorization = AUTHORIZATION.test(text.toString('latin1', nameStart, nameEnd));
      return isAuthorization ? maskAuthorization : (value) => fill(value, 0, value.length);
    });
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
      if (child.kind === 'text') this.#blank(childEnd);
      else this.part(childEnd, child);
    }
  }

  #blank(end: number): void {
    this.#buffer.fill(STAR, this.#cursor.position, end);
    this.#cursor.position = end;
    this.masked++;
  }

  /** Makes the content of a list that is nested too deeply one unknown field: a list still, and nothing in it. */
  #blankList(end: number): void {
    const buffer = this.#buffer;
    const start = this.#cursor.position;
    this.#blank(end);
    if (end - start < 2) return;
    let lengthBytes = 1;
    while (end - start - 1 - lengthBytes >= 2 ** (7 * lengthBytes)) lengthBytes++;
    let length = end - start - 1 - lengthBytes;
    buffer[start] = UNKNOWN_TAG;
    for (let index = 1; index <= lengthBytes; index++) {
      buffer[start + index] = (length % 0x80) + (index < lengthBytes ? 0x80 : 0);
      length = Math.floor(length / 0x80);
    }
  }
}

/** May the text that begins with this byte be JSON? */
function beginsJson(byte: number | undefined): boolean {
  return byte === 0x7b || byte === 0x5b;
}
