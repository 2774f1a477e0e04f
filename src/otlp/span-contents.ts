import type { FrameNote, Resource, Scope, Span } from '../core/evidence.ts';
import { SeenHashes } from '../core/seen-hashes.ts';

/** What a span says but for ids, times and how many attributes nobody asked for. Shared by all spans that say the same. */
export interface SpanContent
  extends Pick<
    Span,
    'name' | 'kind' | 'attributes' | 'events' | 'statusCode' | 'statusMessage' | 'resource' | 'scope'
  > {
  /** No other content has it. */
  readonly number: number;
}

let contents = 0;

export function numberContent(): number {
  return ++contents;
}

/** Slots, a power of two: what the services of one Collector say in a moment, with room for values that vary. */
const SLOTS = 8192;

/** Slots that a content may be in: else two that happen to share one would displace each other for ever. */
export const WAYS = 4;

/** Wanted parts of one span, and their bytes: more seldom says the same twice. */
const PARTS_MAX = 96;
const PART_BYTES_MAX = 8192;

/** Bytes of all that is kept; decoded, and with what is remembered by them, contents take about ten times as much. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

/** Resources and scopes that are kept; those of one moment are few. */
const HEADS_MAX = 1024;
const HEAD_BYTES_MAX = 16_384;

/** A power of two: keys of which it is known that a span had them; what is said again is said again soon. */
const SEEN = 32_768;

/** Start, end and field of each part. */
const WORDS_A_PART = 3;

const PRIME = 0x9e3779b1;

interface Entry {
  readonly hash: number;
  readonly content: SpanContent;
  /** Length and field of each part, and the parts' bytes one behind the other. */
  readonly parts: Int32Array;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly seed: number;
}

/**
 * Contents of spans by their bytes: most spans of a service say what others said before, so that they need neither be decoded
 * nor judged again. Exact: what is found has the very same bytes in every part. Of bounded size; a new content takes the place of
 * an older one.
 */
export class SpanContents {
  readonly #slots: (Entry | undefined)[] = new Array(SLOTS).fill(undefined);
  #keptBytes = 0;
  #turn = 0;
  readonly #heads = new Map<string, Resource | Scope>();
  readonly #headNumbers = new Map<Resource | Scope, number>();
  /** Hashes of keys that were looked for and not found. */
  readonly #seen = new SeenHashes(SEEN);
  /** The key that is being put together. */
  readonly #words = new Int32Array(PARTS_MAX * WORDS_A_PART);
  /** What each part is the value of, where it is an attribute. */
  readonly #keys: string[] = [];
  #count = 0;
  #bytes = 0;
  #hash = 0;
  #seed = 0;
  #view: DataView = new DataView(new ArrayBuffer(0));

  /** The object that stands for all resources, or scopes, with these bytes, given as latin1. */
  head<Head extends Resource | Scope>(kind: 'resource' | 'scope', bytes: string): Head | undefined {
    return this.#heads.get(kind + bytes) as Head | undefined;
  }

  /** Makes it the one that stands for them; false when it is too large to be kept. */
  keepHead(kind: 'resource' | 'scope', bytes: string, head: Resource | Scope): boolean {
    if (bytes.length > HEAD_BYTES_MAX) return false;
    if (this.#heads.size >= HEADS_MAX) {
      this.#heads.clear();
      this.#headNumbers.clear();
    }
    this.#heads.set(kind + bytes, head);
    this.#headNumbers.set(head, this.#heads.size);
    return true;
  }

  /** Begins the key of another span. */
  begin(view: DataView): void {
    this.#view = view;
    this.#hash = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  /** Parts of the key that is being put together. */
  get count(): number {
    return this.#count;
  }

  startOf(part: number): number {
    return this.#words[part * WORDS_A_PART] as number;
  }

  endOf(part: number): number {
    return this.#words[part * WORDS_A_PART + 1] as number;
  }

  fieldOf(part: number): number {
    return this.#words[part * WORDS_A_PART + 2] as number;
  }

  /** The name of a part that is an attribute. */
  keyOf(part: number): string {
    return this.#keys[part] as string;
  }

  /** Adds a part in its order, an attribute with its key. False when it is too much to be kept. */
  add(field: number, start: number, end: number, key = ''): boolean {
    const at = this.#count * WORDS_A_PART;
    this.#bytes += end - start;
    if (at === this.#words.length || this.#bytes > PART_BYTES_MAX) return false;
    this.#words[at] = start;
    this.#words[at + 1] = end;
    this.#words[at + 2] = field;
    this.#keys[this.#count] = key;
    this.#count++;
    this.#hash = hashOf(this.#view, start, end, this.#hash ^ field);
    return true;
  }

  /** What a span with this key, resource and scope said before. `seed` holds what is no part of its bytes and matters all the same. */
  find(resource: Resource, scope: Scope, seed: number): SpanContent | undefined {
    this.#seed = seed;
    // Else what many services say alike would have the same few slots.
    const ofHeads = (this.#headNumbers.get(resource) ?? 0) * HEADS_MAX + (this.#headNumbers.get(scope) ?? 0);
    const mixed = Math.imul(this.#hash ^ Math.imul(seed + 1, PRIME) ^ ofHeads, PRIME);
    this.#hash = mixed ^ (mixed >>> 15);
    const first = this.#setOf();
    for (let slot = first; slot < first + WAYS; slot++) {
      const entry = this.#slots[slot];
      if (entry !== undefined && entry.hash === this.#hash && this.#isIn(entry, resource, scope)) return entry.content;
    }
    return undefined;
  }

  /** Contents that share their lowest bits have a few slots together. */
  #setOf(): number {
    return (this.#hash & (SLOTS / WAYS - 1)) * WAYS;
  }

  #isIn({ content, parts, bytes, view, seed }: Entry, resource: Resource, scope: Scope): boolean {
    if (seed !== this.#seed || content.resource !== resource || content.scope !== scope) return false;
    if (bytes.length !== this.#bytes || parts.length !== 2 * this.#count) return false;
    let offset = 0;
    for (let index = 0; index < this.#count; index++) {
      const start = this.#words[index * WORDS_A_PART] as number;
      const length = (this.#words[index * WORDS_A_PART + 1] as number) - start;
      if (parts[2 * index] !== length || parts[2 * index + 1] !== this.#words[index * WORDS_A_PART + 2]) return false;
      if (!areSameBytes(this.#view, start, view, offset, length)) return false;
      offset += length;
    }
    return true;
  }

  /**
   * Was the key that was looked for last looked for before? Most of what is said for the first time is never said again, and keeping
   * it costs more than reading it does.
   */
  isSeen(): boolean {
    return this.#seen.see(this.#hash);
  }

  /** Keeps what the span says whose key was looked for last. */
  keep(content: SpanContent): void {
    if (this.#keptBytes > KEPT_BYTES_MAX) {
      this.#slots.fill(undefined);
      this.#keptBytes = 0;
    }
    const parts = new Int32Array(2 * this.#count);
    const bytes = new Uint8Array(this.#bytes);
    let offset = 0;
    for (let index = 0; index < this.#count; index++) {
      const start = this.#words[index * WORDS_A_PART] as number;
      const end = this.#words[index * WORDS_A_PART + 1] as number;
      parts[2 * index] = end - start;
      parts[2 * index + 1] = this.#words[index * WORDS_A_PART + 2] as number;
      for (let at = start; at < end; at++) bytes[offset++] = this.#view.getUint8(at);
    }
    const view = new DataView(bytes.buffer);
    const first = this.#setOf();
    let slot = first;
    while (slot < first + WAYS && this.#slots[slot] !== undefined) slot++;
    if (slot === first + WAYS) slot = first + (this.#turn++ % WAYS);
    this.#keptBytes += this.#bytes - (this.#slots[slot]?.bytes.length ?? 0);
    this.#slots[slot] = { hash: this.#hash, content, parts, bytes, view, seed: this.#seed };
  }
}

/** Of no use against an attacker, who could only make contents displace each other. */
export function hashOf(view: DataView, start: number, end: number, seed: number): number {
  let hash = seed | 0;
  let at = start;
  for (; at + 4 <= end; at += 4) {
    hash = Math.imul(hash ^ view.getInt32(at, true), PRIME);
    hash ^= hash >>> 15;
  }
  for (; at < end; at++) hash = Math.imul(hash ^ view.getUint8(at), PRIME);
  return hash ^ (hash >>> 16);
}

export function areSameBytes(
  left: DataView,
  leftStart: number,
  right: DataView,
  rightStart: number,
  length: number,
): boolean {
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    if (left.getInt32(leftStart + at, true) !== right.getInt32(rightStart + at, true)) return false;
  }
  for (; at < length; at++) if (left.getUint8(leftStart + at) !== right.getUint8(rightStart + at)) return false;
  return true;
}

/** What a judgement of a span goes by besides its bytes: whom it comes from, and whether it is a root. */
export function seedOf({ note, parentSpanId }: Span): number {
  return trustOf(note) | (Number(parentSpanId === '') << 3);
}

/** Three bits: how far a sender is trusted. */
export function trustOf({ trusted, vouches, tokens }: FrameNote): number {
  return Number(trusted) | (Number(vouches) << 1) | (Number(tokens !== undefined) << 2);
}

/** Gives the span the content: one field after the other, because this is done for nearly every span. */
export function sayTheSame(span: { -readonly [Key in keyof Span]: Span[Key] }, content: SpanContent): Span {
  span.name = content.name;
  span.kind = content.kind;
  span.attributes = content.attributes;
  span.events = content.events;
  span.statusCode = content.statusCode;
  span.statusMessage = content.statusMessage;
  span.content = content;
  return span;
}
