import type { FrameNote } from '../core/evidence.ts';
import { FACT, FACT_WORDS, putFacts } from '../core/span-columns.ts';
import { ROW, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { isPlain, trustOf } from '../otlp/span-contents.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { type FramePosition, positionKey } from '../wal/segment-format.ts';

/** What settles by form go by of the spans of one frame: all but their bytes. */
export interface FrameSpans {
  readonly key: number;
  readonly note: FrameNote;
  /** `trustOf` its sender. */
  readonly trust: number;
  readonly rows: SpanRows;
  /** By row, `FACT_WORDS` each; zeros for a span that is not written in the usual way. */
  readonly facts: Uint32Array;
  /** The row after the one that was asked for last. */
  nextRow: number;
}

/** Undefined where equal bytes may say different things. */
export function frameSpansOf({ position, note, payload }: StoredFrame, rows: SpanRows): FrameSpans | undefined {
  if (!isPlain(note)) return undefined;
  const facts = new Uint32Array(rows.count * FACT_WORDS);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  for (let row = 0; row < rows.count; row++) {
    const at = row * ROW_WORDS;
    if ((rows.words[at + ROW.startAt] as number) >= 0) putFacts(facts, row * FACT_WORDS, rows.words, at, view);
  }
  return { key: positionKey(position), note, trust: trustOf(note), rows, facts, nextRow: 0 };
}

/** Is this the span's trace id? */
export function isOfTrace({ facts }: FrameSpans, row: number, id: Uint32Array): boolean {
  const at = row * FACT_WORDS + FACT.traceId;
  for (let word = 0; word < id.length; word++) if (facts[at + word] !== id[word]) return false;
  return true;
}

/** What a span takes: its facts, its row, and a reference to what is known of it. */
const SPAN_BYTES = 4 * (FACT_WORDS + ROW_WORDS) + 8;
const FRAME_BYTES = 512;

/** A quarter of a million spans: of the two seconds or so in which most traces are waited for, at the rate that one core takes. */
const BYTES_MAX = 24 * 1024 * 1024;

/**
 * Frames that came lately and have traces that wait. Traces settle in about the order in which they came: when there is no more
 * room, frames before the one that was asked for last make way, and without such ones what comes is not kept. Were the
 * oldest to go instead, a little too much of all would leave none that is asked for.
 */
export class RecentSpans {
  readonly #frames = new Map<number, FrameSpans>();
  #bytes = 0;
  #askedFor = 0;

  add(frame: StoredFrame): void {
    if (frame.spans === undefined || frame.signal !== 'traces') return;
    const bytes = bytesOf(frame.spans);
    if (this.#bytes + bytes > BYTES_MAX) this.#makeRoom(bytes);
    if (this.#bytes + bytes > BYTES_MAX) return;
    const spans = frameSpansOf(frame, frame.spans);
    if (spans === undefined) return;
    this.#frames.set(spans.key, spans);
    this.#bytes += bytes;
  }

  find(position: FramePosition): FrameSpans | undefined {
    const key = positionKey(position);
    if (key > this.#askedFor) this.#askedFor = key;
    return this.#frames.get(key);
  }

  #makeRoom(bytes: number): void {
    for (const [key, { rows }] of this.#frames) {
      if (key >= this.#askedFor || this.#bytes + bytes <= BYTES_MAX) return;
      this.#frames.delete(key);
      this.#bytes -= bytesOf(rows);
    }
  }
}

function bytesOf({ count }: SpanRows): number {
  return count * SPAN_BYTES + FRAME_BYTES;
}
