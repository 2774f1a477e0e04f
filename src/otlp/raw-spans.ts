import type { Resource, Scope } from '../core/evidence.ts';
import type { SpanColumns } from '../core/span-columns.ts';
import { areSameBytes, hashOf, type SpanContent } from './span-contents.ts';
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

/** Slots, a power of two; as many as `SpanContents` has. */
const SLOTS = 8192;

/** Bytes of one span beside its ids and times; larger ones seldom repeat. */
const BYTES_MAX = 4096;

/** Bytes of all that is kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** Runs of bytes between ids and times; usual encoders write three. */
const RUNS_MAX = 8;

const SEED_PRIME = 0x85ebca6b;

/** Epoch nanoseconds from here on have no room in a record: 2262. High half. */
const TIME_HIGH_MAX = 2_145_000_000;

interface Entry {
  readonly hash: number;
  readonly seed: number;
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
  /** Starts and ends of the runs of the span that was looked at last. */
  readonly #runs = new Int32Array(2 * RUNS_MAX);
  #runCount = 0;
  #bytes = 0;
  #hash = 0;
  #seed = 0;
  #view: DataView = new DataView(new ArrayBuffer(0));
  /** Where the trace id of the span stands that was looked at last. */
  traceIdAt = -1;

  /**
   * Reads ids and times of the span between the offsets into the columns' next place, and finds the runs of the rest. False when
   * this is no span for columns. `trust` says who sent it.
   */
  look(bytes: Uint8Array, view: DataView, start: number, end: number, columns: SpanColumns, trust: number): boolean {
    const to = columns.count;
    let at = start;
    let runStart = -1;
    let [hash, size, runs] = [0, 0, 0];
    let [traceId, spanId, parentId, starts, ends, flags] = [-1, -1, -1, -1, -1, 0];
    this.#view = view;
    while (at < end) {
      const fieldStart = at;
      const tag = bytes[at++] as number;
      let next: number;
      switch (tag) {
        case TRACE_ID:
          if (bytes[at] !== TRACE_ID_BYTES) return false;
          traceId = at + 1;
          next = at + 1 + TRACE_ID_BYTES;
          break;
        case SPAN_ID:
          if (bytes[at] !== SPAN_ID_BYTES) return false;
          spanId = at + 1;
          next = at + 1 + SPAN_ID_BYTES;
          break;
        case PARENT_SPAN_ID:
          if (bytes[at] === 0) next = at + 1;
          else if (bytes[at] !== SPAN_ID_BYTES) return false;
          else {
            parentId = at + 1;
            next = at + 1 + SPAN_ID_BYTES;
          }
          break;
        case TRACE_STATE:
          if (bytes[at] !== 0) return false;
          next = at + 1;
          break;
        case START:
          starts = at;
          next = at + 8;
          break;
        case END:
          ends = at;
          next = at + 8;
          break;
        case FLAGS[0]:
          if (bytes[at] !== FLAGS[1] || at + 5 > end) return false;
          flags = view.getInt32(at + 1, true);
          next = at + 5;
          break;
        case NAME:
        case ATTRIBUTES:
        case LINKS:
        case STATUS: {
          let length = bytes[at++] as number;
          if (length >= 0x80) {
            const second = bytes[at++] as number;
            if (second >= 0x80) return false;
            length = (length & 0x7f) | (second << 7);
          }
          at += length;
          if (runStart < 0) runStart = fieldStart;
          continue;
        }
        case KIND:
        case DROPPED_ATTRIBUTES:
        case DROPPED_EVENTS:
        case DROPPED_LINKS:
          if ((bytes[at++] as number) >= 0x80) return false;
          if (runStart < 0) runStart = fieldStart;
          continue;
        default:
          return false;
      }
      if (runStart >= 0) {
        if (runs === RUNS_MAX - 1) return false;
        hash = hashOf(view, runStart, fieldStart, hash);
        size += fieldStart - runStart;
        this.#runs[2 * runs] = runStart;
        this.#runs[2 * runs++ + 1] = fieldStart;
        runStart = -1;
      }
      at = next;
    }
    if (at !== end || traceId < 0 || spanId < 0 || starts < 0 || ends < 0) return false;
    if (runStart >= 0) {
      hash = hashOf(view, runStart, end, hash);
      size += end - runStart;
      this.#runs[2 * runs] = runStart;
      this.#runs[2 * runs++ + 1] = end;
    }
    if (size > BYTES_MAX) return false;
    this.traceIdAt = traceId;
    this.#runCount = runs;
    this.#bytes = size;
    this.#seed = (trust << 1) | Number(parentId < 0);
    this.#hash = hash ^ Math.imul(this.#seed + 1, SEED_PRIME);
    columns.idHigh[to] = view.getUint32(spanId);
    columns.idLow[to] = view.getUint32(spanId + 4);
    columns.parentHigh[to] = parentId < 0 ? 0 : view.getUint32(parentId);
    columns.parentLow[to] = parentId < 0 ? 0 : view.getUint32(parentId + 4);
    columns.startLow[to] = view.getUint32(starts, true);
    columns.startHigh[to] = view.getUint32(starts + 4, true);
    columns.endLow[to] = view.getUint32(ends, true);
    columns.endHigh[to] = view.getUint32(ends + 4, true);
    columns.flags[to] = flags;
    return areTimesUsual(columns, to) && areIdsUsual(columns, to, parentId >= 0);
  }

  /** What the span that was looked at last says, when it was kept before with the same resource and scope. */
  find(resource: Resource, scope: Scope): SpanContent | undefined {
    const entry = this.#slots[this.#hash & (SLOTS - 1)];
    if (entry === undefined || entry.hash !== this.#hash || entry.seed !== this.#seed) return undefined;
    const { content, view } = entry;
    if (content.resource !== resource || content.scope !== scope || view.byteLength !== this.#bytes) return undefined;
    let offset = 0;
    for (let run = 0; run < this.#runCount; run++) {
      const start = this.#runs[2 * run] as number;
      const length = (this.#runs[2 * run + 1] as number) - start;
      if (!areSameBytes(this.#view, start, view, offset, length)) return undefined;
      offset += length;
    }
    return content;
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
    const slot = this.#hash & (SLOTS - 1);
    this.#keptBytes += this.#bytes - (this.#slots[slot]?.view.byteLength ?? 0);
    this.#slots[slot] = { hash: this.#hash, seed: this.#seed, view: new DataView(kept.buffer), content };
  }
}

/** Both are there, in range and in order: what else there is to say of times needs a whole settle. */
function areTimesUsual({ startHigh, startLow, endHigh, endLow }: SpanColumns, at: number): boolean {
  const [from, to] = [startHigh[at] as number, endHigh[at] as number];
  if (from === 0 || to > TIME_HIGH_MAX) return false;
  return from < to || (from === to && (startLow[at] as number) <= (endLow[at] as number));
}

/** None is zero: that would be no id. */
function areIdsUsual({ idHigh, idLow, parentHigh, parentLow }: SpanColumns, at: number, hasParent: boolean): boolean {
  if (((idHigh[at] as number) | (idLow[at] as number)) === 0) return false;
  return !hasParent || ((parentHigh[at] as number) | (parentLow[at] as number)) !== 0;
}
