import type { Signal } from '../core/evidence.ts';
import type { SpanRows } from '../core/span-rows.ts';
import { CleanParts, IS_CLEAN, NOT_KEPT } from './clean-parts.ts';
import { type CredentialFinder, FINDS_NOTHING } from './credential-finder.ts';
import { beginsJson, HarmlessAttributes } from './harmless.ts';
import { Hints, QUOTE_HINTS, TEXT_HINTS } from './hints.ts';
import { compileLooseKeys } from './key-set.ts';
import { maskAssignments } from './mask-assignments.ts';
import { maskBaggage } from './mask-baggage.ts';
import { maskCookies } from './mask-cookie.ts';
import { maskJson } from './mask-json.ts';
import { isProof, type Mode, type Proof } from './mask-mode.ts';
import { baggageNames, endingsOf, jsonNames, type Mask, modeOfKey } from './mask-names.ts';
import { SHAPES, type Shape, timeIn } from './mask-shape.ts';
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
import { PartCursor } from './part-cursor.ts';
import { SecretNames } from './secret-names.ts';
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
  /** Attribute keys that hold the id of a session, and names of cookies that do: a keyed hash takes its place. */
  readonly sessions?: { readonly attributes: readonly string[]; readonly cookies: readonly string[] };
}

/** Attributes that hold a URL or a part of one. */
const URL_KEYS = ['url.query', 'url.full', 'http.target', 'http.url', 'http.request.header.referer'];

export function compileMask({ queryParameters, sessions, ...settings }: MaskSettings, clean = rememberClean()): Mask {
  const attributes = inBaggageToo(settings.attributes);
  const sessionKeys = inBaggageToo(sessions?.attributes ?? []);
  const groups = sessionKeys.flatMap((key) => (key.includes('.') ? [key.slice(0, key.lastIndexOf('.'))] : []));
  const cookies = sessions?.cookies ?? [];
  return {
    attributes: compileLooseKeys(attributes),
    sessions: compileLooseKeys(sessionKeys),
    groups: compileLooseKeys(groups),
    members: compileLooseKeys(sessionKeys.map((key) => key.slice(key.lastIndexOf('.') + 1))),
    noted: compileLooseKeys([...attributes, ...sessionKeys, ...groups, ...URL_KEYS]),
    endings: endingsOf(attributes),
    queryParameters: new SecretNames(queryParameters),
    cookies: new SecretNames(cookies.flatMap((name) => [name, `__Host-${name}`, `__Secure-${name}`])),
    clean,
  };
}

/** For some hundred services with room for values that vary: at most 7 MB. */
function rememberClean(): Mask['clean'] {
  return { rests: new CleanParts(4096, 1536), texts: new CleanParts(1024, 128), keys: new CleanParts(1024, 128) };
}

/** Span processors copy members of baggage to attributes of this prefix. */
function inBaggageToo(keys: readonly string[]): string[] {
  return keys.flatMap((key) => [key, `baggage.${key}`]);
}

/** The first letter of every JSON Web Token: `{` in base64. */
const LETTER_E = 0x65;

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
 * the scan would not have passed. The finder is told of credentials on the way. `rows` are what a walk found in the payload: parts
 * that are known to be clean are passed over, others that prove to be are known from then on.
 */
export function maskSecrets(
  payload: Buffer,
  signal: Signal,
  mask: Mask,
  finder: CredentialFinder = FINDS_NOTHING,
  rows?: SpanRows,
): number {
  if (rows?.isClean) return 0;
  const masker = new Masker(payload, mask, finder, rows);
  try {
    masker.part(payload.length, SHAPES[signal]);
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    payload.fill(STAR);
  }
  return masker.masked;
}

class Masker {
  masked = 0;
  #undecodable = 0;
  /** Credentials that the finder was told of. */
  #told = 0;
  readonly #buffer: Buffer;
  readonly #view: DataView;
  readonly #mask: Mask;
  readonly #finder: CredentialFinder;
  readonly #foundToken = (token: string): void => {
    this.#told++;
    this.#finder.token(token);
  };
  readonly #foundSession = (id: Buffer): void => {
    this.#told++;
    this.#finder.session(id);
  };
  readonly #cursor: WireCursor;
  /** Of what may be secret in a text. */
  readonly #hints: Hints;
  readonly #quotes: Hints;
  readonly #harmless: HarmlessAttributes;
  readonly #known: PartCursor | undefined;

  constructor(buffer: Buffer, mask: Mask, finder: CredentialFinder, rows: SpanRows | undefined) {
    this.#buffer = buffer;
    this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    this.#mask = mask;
    this.#finder = finder;
    this.#cursor = new WireCursor(buffer);
    this.#hints = new Hints(buffer, TEXT_HINTS);
    this.#quotes = new Hints(buffer, QUOTE_HINTS);
    this.#harmless = new HarmlessAttributes(buffer, this.#view, mask, this.#hints);
    this.#known = rows && new PartCursor(rows);
  }

  /** Masks the part from the cursor to `end`. Throws only when it is a unit. */
  part(end: number, shape: Shape): void {
    const start = this.#cursor.position;
    if (this.#undecodable < UNDECODABLE_MAX) {
      try {
        if (shape.kind === 'attribute') this.#attribute(end, 'search', 0);
        else if (shape.kind === 'value') this.#value(end, 'body', 0);
        else this.#fields(end, shape);
        if (this.#finder.hasUntimed && shape.times.length > 0)
          this.#finder.usedAt(timeIn(this.#cursor, start, end, shape));
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

  /** Whole fields of a message mean the same behind whatever others: all from the first attribute on are known or searched together. */
  #fields(end: number, shape: Shape): void {
    const cursor = this.#cursor;
    const { rests } = this.#mask.clean;
    let restAt = -1;
    let slot = NOT_KEPT;
    let before = 0;
    while (cursor.position < end) {
      const tagAt = cursor.position;
      const tag = cursor.tag(end);
      const child = (tag & 7) === WIRE.delimited ? shape.fields[tag >>> 3] : undefined;
      if (child === undefined) {
        cursor.skip(tag, end);
        continue;
      }
      if (restAt < 0 && child.kind === 'attribute' && this.#undecodable < UNDECODABLE_MAX) {
        slot = rests.find(this.#view, tagAt, end, shape.number);
        if (slot === IS_CLEAN) {
          cursor.position = end;
          return;
        }
        restAt = tagAt;
        before = this.#found;
      }
      const childEnd = cursor.delimitedEnd(end);
      if (child.kind === 'attribute' && this.#harmless.has(cursor.position, childEnd)) cursor.position = childEnd;
      else if (child.kind === 'text') this.#textOnce(childEnd);
      else if (child.isKnown && this.#known !== undefined) this.#partOnce(childEnd, child, this.#known);
      else this.part(childEnd, child);
    }
    if (slot >= 0 && this.#found === before) rests.keep(slot, this.#view, restAt, end, shape.number);
  }

  /** Masks the resource, scope or span from the cursor to `end`, unless one with the same bytes was clean. */
  #partOnce(end: number, shape: Shape, known: PartCursor): void {
    const part = known.partAt(this.#cursor.position);
    if (part?.isClean && this.#undecodable < UNDECODABLE_MAX && !this.#finder.hasUntimed) {
      this.#cursor.position = end;
      return;
    }
    if (known.isNearlyClean) for (const hints of [this.#hints, this.#quotes, this.#harmless]) hints.limit(end);
    const before = this.#found;
    this.part(end, shape);
    if (part !== undefined && this.#found === before) part.isClean = true;
  }

  /** Masks the text from the cursor to `end`, unless one with the same bytes was clean. */
  #textOnce(end: number): void {
    const { texts } = this.#mask.clean;
    const start = this.#cursor.position;
    this.#cursor.position = end;
    const slot = texts.find(this.#view, start, end);
    if (slot === IS_CLEAN) return;
    const before = this.#found;
    this.#text(start, end, 'search');
    if (slot >= 0 && this.#found === before) texts.keep(slot, this.#view, start, end);
  }

  /** Grows with all that is masked, told or cannot be decoded. */
  get #found(): number {
    return this.masked + this.#told + this.#undecodable;
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
    let mode: Mode;
    if (isProof(outer)) mode = 'all';
    else if (outer === 'group' && this.#mask.members.match(this.#buffer, keyStart, keyEnd) !== undefined)
      mode = 'session';
    else mode = modeOfKey(this.#mask, this.#buffer, keyStart, keyEnd);
    cursor.position = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === VALUE_TAG.value) this.#value(cursor.delimitedEnd(end), mode, depth);
      else cursor.skip(tag, end);
    }
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
      } else if ((tag === VALUE_TAG.int || tag === VALUE_TAG.double) && isProof(mode) && mode !== 'authorization') {
        this.#number(start, cursor.position, tag, mode);
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
    if (isProof(mode)) {
      if (this.#proof(this.#buffer.subarray(start, end), mode)) this.masked++;
      return;
    }
    const hasHint = this.#hints.within(start, end);
    const hasToken = this.#harmless.mayHoldToken(start, end);
    const hasJson = beginsJson(this.#buffer[start]) || (mode === 'body' && this.#quotes.within(start, end));
    const isToken = mode === 'header' && this.#buffer[start] === LETTER_E;
    if (!hasHint && !hasToken && !hasJson && !isToken && mode !== 'url' && mode !== 'baggage') return;
    const text = this.#buffer.subarray(start, end);
    let masked = false;
    if (mode === 'header') masked = maskSignature(text, this.#foundToken) ?? false;
    if (mode === 'baggage') masked = maskBaggage(text, baggageNames(this.#mask, text), this.#foundSession);
    if (hasJson)
      masked =
        maskJson(
          text,
          jsonNames(this.#mask, text, (value, proof) => this.#proof(value, proof)),
        ) || masked;
    if (hasHint) masked = maskUrlPasswords(text) || masked;
    // The first name in a URL's query stands behind nothing that would hint at it.
    if (hasHint || mode === 'url') {
      masked = maskParameters(text, this.#mask.queryParameters, mode === 'url') || masked;
      if (mode !== 'url') masked = maskAssignments(text) || masked;
    }
    if (hasToken) masked = maskSignatures(text) || masked;
    if (masked) this.masked++;
  }

  #proof(text: Buffer, mode: Proof): boolean {
    if (mode === 'all') return fill(text, 0, text.length);
    if (mode === 'session') {
      this.#foundSession(text);
      return true;
    }
    let masked: boolean;
    if (mode === 'cookie') masked = maskCookies(text, this.#mask.cookies, this.#foundSession);
    else if (mode === 'token') masked = maskToken(text, this.#foundToken);
    else masked = maskAuthorization(text, this.#foundToken);
    if (masked) {
      this.#told++;
      this.#finder.arrived(mode);
    }
    return masked;
  }

  /** Zero in as many bytes, or a hash: a varint may be padded with continuation bytes. */
  #number(start: number, end: number, tag: number, mode: Proof): void {
    const bytes = this.#buffer.subarray(start, end);
    if (mode === 'session') {
      this.#foundSession(bytes);
      if (tag === VALUE_TAG.int) for (let at = 0; at < bytes.length - 1; at++) bytes[at] = (bytes[at] as number) | 0x80;
    } else {
      bytes.fill(tag === VALUE_TAG.int ? 0x80 : 0);
      bytes[bytes.length - 1] = 0;
    }
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
