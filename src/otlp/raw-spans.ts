import type { Resource, Scope } from '../core/evidence.ts';
import type { SpanColumns } from '../core/span-columns.ts';
import { areSameBytes, hashOf, type SpanContent, WAYS } from './span-contents.ts';
import { SPAN_ID_BYTES, TRACE_ID_BYTES } from './wire.ts';

/** Tags of opentelemetry-proto 1.x as they are written, one byte each; the flags' has two. */
const TRACE_ID = 0x0a;
const SPAN_ID = 0x12;
const TRACE_STATE = 0x1a;
const PARENT_SPAN_ID = 0x22;
const NAME = 0x2a;
const KIND = 0x30;
const START = 0x39;
const END = 0x41;
const ATTRIBUTES = 0x4a;
const DROPPED_ATTRIBUTES = 0x50;
const DROPPED_EVENTS = 0x60;
const LINKS = 0x6a;
const DROPPED_LINKS = 0x70;
const STATUS = 0x7a;
const FLAGS = [0x85, 0x01] as const;

/** By tag: fields of a span's content with a length before them, and those that are a small number. */
const PART = 1;
const SMALL = 2;
const KINDS = new Uint8Array(256);
for (const tag of [NAME, ATTRIBUTES, LINKS, STATUS]) KINDS[tag] = PART;
for (const tag of [KIND, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS]) KINDS[tag] = SMALL;

/** Slots, a power of two; as many as `SpanContents` has. */
const SLOTS = 8192;

/** Bytes of one span beside its ids and times; larger ones seldom repeat. */
const BYTES_MAX = 4096;

/** Bytes of all that is kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** Runs of bytes between ids and times; usual encoders write three. */
const RUNS_MAX = 8;

/** Bytes. */
const LONG_RUN = 96;

const SEED_PRIME = 0x85ebca6b;

/** Epoch nanoseconds from here on have no room in a record: 2262. High half. */
const TIME_HIGH_MAX = 2_145_000_000;

interface Entry {
  readonly hash: number;
  readonly seed: number;
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly content: SpanContent;
}

/**
 * Spans whose bytes, apart from ids and times, were read before: one pass over their fields finds what they say without looking
 * at a key or value. Exact: all bytes are compared. What is not written in the usual way, or has what seldom repeats (events,
 * a trace state), is left to the reader of everything.
 */
export class RawSpans {
  readonly #slots: (Entry | undefined)[] = new Array(SLOTS).fill(undefined);
  #keptBytes = 0;
  #turn = 0;
  /** Starts and ends of the runs of the span that was looked at last. */
  readonly #runs = new Int32Array(2 * RUNS_MAX);
  #runCount = 0;
  #bytes = 0;
  #hash = 0;
  #seed = 0;
  #payload: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  /** Where the trace id of the span stands that was looked at last, and its other ids and times. */
  traceIdAt = -1;
  #spanIdAt = -1;
  #parentIdAt = -1;
  #startAt = -1;
  #endAt = -1;
  #flags = 0;

  /**
   * Reads ids and times of the span between the offsets into the columns' next place, and finds the runs of the rest. False when
   * this is no span for columns. `trust` says who sent it.
   */
  look(bytes: Uint8Array, view: DataView, start: number, end: number, columns: SpanColumns, trust: number): boolean {
    this.#payload = bytes;
    this.#view = view;
    this.#hash = 0;
    this.#bytes = 0;
    this.#runCount = 0;
    this.traceIdAt = this.#spanIdAt = this.#parentIdAt = this.#startAt = this.#endAt = -1;
    this.#flags = 0;
    let at = start;
    let runStart = -1;
    while (at < end) {
      const fieldStart = at;
      const tag = bytes[at++] as number;
      const next = KINDS[tag] === PART ? partEnd(bytes, at) : KINDS[tag] === SMALL ? smallEnd(bytes, at) : 0;
      if (next !== 0) {
        if (next < 0) return false;
        if (runStart < 0) runStart = fieldStart;
        at = next;
        continue;
      }
      at = this.#own(tag, bytes, at);
      if (at < 0) return false;
      if (runStart >= 0 && !this.#addRun(runStart, fieldStart)) return false;
      runStart = -1;
    }
    if (at !== end || this.traceIdAt < 0 || this.#spanIdAt < 0 || this.#startAt < 0 || this.#endAt < 0) return false;
    if (runStart >= 0 && !this.#addRun(runStart, end)) return false;
    if (this.#bytes > BYTES_MAX) return false;
    this.#seed = (trust << 1) | Number(this.#parentIdAt < 0);
    this.#hash ^= Math.imul(this.#seed + 1, SEED_PRIME);
    return this.#put(columns);
  }

  /** Notes where an id or time of the span lies. The end of its field; -1 when that is none, or not as usual. */
  #own(tag: number, bytes: Uint8Array, at: number): number {
    switch (tag) {
      case TRACE_ID:
        this.traceIdAt = at + 1;
        return bytes[at] === TRACE_ID_BYTES ? at + 1 + TRACE_ID_BYTES : -1;
      case SPAN_ID:
        this.#spanIdAt = at + 1;
        return bytes[at] === SPAN_ID_BYTES ? at + 1 + SPAN_ID_BYTES : -1;
      case PARENT_SPAN_ID:
        if (bytes[at] === 0) return at + 1;
        this.#parentIdAt = at + 1;
        return bytes[at] === SPAN_ID_BYTES ? at + 1 + SPAN_ID_BYTES : -1;
      case TRACE_STATE:
        return bytes[at] === 0 ? at + 1 : -1;
      case START:
        this.#startAt = at;
        return at + 8;
      case END:
        this.#endAt = at;
        return at + 8;
      case FLAGS[0]:
        if (bytes[at] !== FLAGS[1] || at + 5 > this.#view.byteLength) return -1;
        this.#flags = this.#view.getInt32(at + 1, true);
        return at + 5;
      default:
        return -1;
    }
  }

  #addRun(start: number, end: number): boolean {
    const run = this.#runCount;
    if (run === RUNS_MAX) return false;
    this.#hash = hashOf(this.#view, start, end, this.#hash);
    this.#bytes += end - start;
    this.#runs[2 * run] = start;
    this.#runs[2 * run + 1] = end;
    this.#runCount = run + 1;
    return true;
  }

  #put(columns: SpanColumns): boolean {
    const view = this.#view;
    const to = columns.count;
    const parent = this.#parentIdAt;
    columns.idHigh[to] = view.getUint32(this.#spanIdAt);
    columns.idLow[to] = view.getUint32(this.#spanIdAt + 4);
    columns.parentHigh[to] = parent < 0 ? 0 : view.getUint32(parent);
    columns.parentLow[to] = parent < 0 ? 0 : view.getUint32(parent + 4);
    columns.startLow[to] = view.getUint32(this.#startAt, true);
    columns.startHigh[to] = view.getUint32(this.#startAt + 4, true);
    columns.endLow[to] = view.getUint32(this.#endAt, true);
    columns.endHigh[to] = view.getUint32(this.#endAt + 4, true);
    columns.flags[to] = this.#flags;
    return areTimesUsual(columns, to) && areIdsUsual(columns, to, parent >= 0);
  }

  /** What the span that was looked at last says, when it was kept before with the same resource and scope. */
  find(resource: Resource, scope: Scope): SpanContent | undefined {
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

  #isIn(entry: Entry, resource: Resource, scope: Scope): boolean {
    const { content, bytes, seed } = entry;
    if (seed !== this.#seed || content.resource !== resource || content.scope !== scope) return false;
    if (bytes.length !== this.#bytes) return false;
    let offset = 0;
    for (let run = 0; run < this.#runCount; run++) {
      const start = this.#runs[2 * run] as number;
      const length = (this.#runs[2 * run + 1] as number) - start;
      if (!this.#isSame(start, length, entry, offset)) return false;
      offset += length;
    }
    return true;
  }

  /** The machine compares long runs faster; a call costs as much as comparing a short one. */
  #isSame(start: number, length: number, { view, bytes }: Entry, offset: number): boolean {
    if (length < LONG_RUN) return areSameBytes(this.#view, start, view, offset, length);
    return bytes.compare(this.#payload, start, start + length, offset, offset + length) === 0;
  }

  /** Keeps what the span says that was looked at last. */
  keep(content: SpanContent): void {
    if (this.#keptBytes > KEPT_BYTES_MAX) {
      this.#slots.fill(undefined);
      this.#keptBytes = 0;
    }
    const kept = new Uint8Array(this.#bytes);
    const { buffer, byteOffset } = this.#view;
    let offset = 0;
    for (let run = 0; run < this.#runCount; run++) {
      const start = this.#runs[2 * run] as number;
      const length = (this.#runs[2 * run + 1] as number) - start;
      kept.set(new Uint8Array(buffer, byteOffset + start, length), offset);
      offset += length;
    }
    const first = this.#setOf();
    let slot = first;
    while (slot < first + WAYS && this.#slots[slot] !== undefined) slot++;
    if (slot === first + WAYS) slot = first + (this.#turn++ % WAYS);
    this.#keptBytes += this.#bytes - (this.#slots[slot]?.bytes.length ?? 0);
    const bytes = Buffer.from(kept.buffer);
    this.#slots[slot] = { hash: this.#hash, seed: this.#seed, bytes, view: new DataView(kept.buffer), content };
  }
}

/** The end of a part whose length, in one byte or two, stands here; -1 for a longer one. */
function partEnd(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  if (first < 0x80) return at + 1 + first;
  const second = bytes[at + 1] as number;
  return second < 0x80 ? at + 2 + ((first & 0x7f) | (second << 7)) : -1;
}

/** The end of a number of one byte; -1 for a larger one. */
function smallEnd(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) < 0x80 ? at + 1 : -1;
}

/** Both are there, in range and in order: what else there is to say of times needs a whole settle. */
function areTimesUsual({ startHigh, startLow, endHigh, endLow }: SpanColumns, at: number): boolean {
  const from = startHigh[at] as number;
  const to = endHigh[at] as number;
  if (from === 0 || to > TIME_HIGH_MAX) return false;
  return from < to || (from === to && (startLow[at] as number) <= (endLow[at] as number));
}

/** None is zero: that would be no id. */
function areIdsUsual({ idHigh, idLow, parentHigh, parentLow }: SpanColumns, at: number, hasParent: boolean): boolean {
  if (((idHigh[at] as number) | (idLow[at] as number)) === 0) return false;
  return !hasParent || ((parentHigh[at] as number) | (parentLow[at] as number)) !== 0;
}
