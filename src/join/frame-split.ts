import { ROW, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { scanTraces } from '../otlp/scan.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { hashTrace } from './trace-slots.ts';

/** Words of one span: its trace id, span id and parent's id, big-endian, zeros for what is absent, and where it is in the payload. */
export const SPAN = { trace: 0, spanHigh: 4, spanLow: 5, parentHigh: 6, parentLow: 7, itemStart: 8 } as const;
export const SPAN_WORDS = 9;

const WORDS_FIRST = 1024;

/** Which of so many shards owns a trace (four words). Namespaces have other numbers in each shard, so they do not count. */
export function shardOf(id: Uint32Array, shardCount: number): number {
  return hashTrace(id, 1) % shardCount;
}

/** Words that grow as they are added to. */
interface Part {
  words: Uint32Array;
  end: number;
}

/**
 * Looks through a frame of spans once for all shards, so that none has to read it before its traces are settled. A shard gets
 * nothing but `SPAN_WORDS` for each span of its own.
 */
export class FrameSplitter {
  readonly #parts: readonly Part[];
  readonly #id = new Uint32Array(4);
  #frame: StoredFrame | undefined;
  #isWhole = false;

  constructor(shardCount: number) {
    this.#parts = Array.from({ length: shardCount }, () => ({ words: new Uint32Array(WORDS_FIRST), end: 0 }));
  }

  /** The shard's spans, valid until the next frame; undefined when the shard has to look at the frame by itself. */
  spansOf(frame: StoredFrame, shardIndex: number): Uint32Array | undefined {
    if (frame !== this.#frame) this.#split(frame);
    const part = this.#parts[shardIndex];
    return this.#isWhole ? part?.words.slice(0, part.end) : undefined;
  }

  #split(frame: StoredFrame): void {
    this.#frame = frame;
    this.#isWhole = false;
    // Log records without a trace are a matter of their contents.
    if (frame.signal !== 'traces') return;
    for (const part of this.#parts) part.end = 0;
    this.#isWhole = frame.spans === undefined ? this.#scan(frame) : this.#take(frame.payload, frame.spans);
  }

  #scan(frame: StoredFrame): boolean {
    const result = scanTraces(frame.payload, ({ itemStart, traceIdAt, spanIdAt, parentSpanIdAt }) =>
      this.#add(frame.payload, itemStart, traceIdAt, spanIdAt, parentSpanIdAt),
    );
    if (result.ok) frame.items ??= result.items - result.rejected;
    return result.ok;
  }

  /** Where somebody has walked through it before. */
  #take(payload: Buffer, { count, words }: SpanRows): true {
    for (let at = 0; at < count * ROW_WORDS; at += ROW_WORDS) {
      const start = words[at + ROW.itemStart] as number;
      const traceIdAt = words[at + ROW.traceIdAt] as number;
      this.#add(payload, start, traceIdAt, words[at + ROW.spanIdAt] as number, words[at + ROW.parentIdAt] as number);
    }
    return true;
  }

  #add(payload: Buffer, itemStart: number, traceIdAt: number, spanIdAt: number, parentSpanIdAt: number): void {
    const id = this.#id;
    for (let word = 0; word < 4; word++) id[word] = wordAt(payload, traceIdAt + word * 4);
    const part = this.#parts[shardOf(id, this.#parts.length)] as Part;
    if (part.end + SPAN_WORDS > part.words.length) part.words = grown(part.words);
    const { words, end } = part;
    words.set(id, end);
    words[end + SPAN.spanHigh] = wordAt(payload, spanIdAt);
    words[end + SPAN.spanLow] = wordAt(payload, spanIdAt + 4);
    words[end + SPAN.parentHigh] = parentSpanIdAt < 0 ? 0 : wordAt(payload, parentSpanIdAt);
    words[end + SPAN.parentLow] = parentSpanIdAt < 0 ? 0 : wordAt(payload, parentSpanIdAt + 4);
    words[end + SPAN.itemStart] = itemStart;
    part.end = end + SPAN_WORDS;
  }
}

function grown(words: Uint32Array): Uint32Array {
  const larger = new Uint32Array(words.length * 2);
  larger.set(words);
  return larger;
}

/** Big-endian. */
export function wordAt(bytes: Buffer, at: number): number {
  const high = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  return ((high << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number)) >>> 0;
}
