import { FACT_WORDS, putFacts } from '../core/span-columns.ts';
import { ROW, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { KnownParts } from '../otlp/known-parts.ts';
import { SpanWalk } from '../otlp/span-walk.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { hashTrace } from './trace-slots.ts';

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
 * Looks through a frame of spans once for all shards, so that none has to read it, be it to settle traces that say what others
 * said. A shard gets nothing but `FACT_WORDS` for each span of its own.
 */
export class FrameSplitter {
  readonly #parts: readonly Part[];
  readonly #walk: SpanWalk;
  readonly #id = new Uint32Array(4);
  #frame: StoredFrame | undefined;
  #isWhole = false;

  /** `known` is what the walks go by that frames come with: the numbers of parts mean the same in all frames. */
  constructor(shardCount: number, known = new KnownParts()) {
    this.#parts = Array.from({ length: shardCount }, () => ({ words: new Uint32Array(WORDS_FIRST), end: 0 }));
    this.#walk = new SpanWalk(known);
  }

  /** The shard's spans, valid until the next frame; undefined when the shard has to look at the frame by itself. */
  spansOf(frame: StoredFrame, shardIndex: number): Uint32Array | undefined {
    if (frame !== this.#frame) this.#split(frame);
    const part = this.#parts[shardIndex];
    return this.#isWhole ? part?.words.subarray(0, part.end) : undefined;
  }

  #split(frame: StoredFrame): void {
    this.#frame = frame;
    this.#isWhole = false;
    // Log records without a trace are a matter of their contents.
    if (frame.signal !== 'traces') return;
    const rows = frame.spans ?? this.#rowsOf(frame);
    if (rows === undefined) return;
    this.#isWhole = true;
    const { buffer, byteOffset, length } = frame.payload;
    this.#take(new DataView(buffer, byteOffset, length), rows);
  }

  /** Of one that nobody walked through yet; undefined when it cannot be read to its end. */
  #rowsOf(frame: StoredFrame): SpanRows | undefined {
    const { result, rows } = this.#walk.walkMasked(frame.payload);
    if (!result.ok) return undefined;
    frame.items ??= result.items - result.rejected;
    return rows;
  }

  #take(view: DataView, { count, words, parts }: SpanRows): void {
    const id = this.#id;
    for (const part of this.#parts) part.end = 0;
    for (let row = 0; row < count; row++) {
      const at = row * ROW_WORDS;
      const traceIdAt = words[at + ROW.traceIdAt] as number;
      for (let word = 0; word < 4; word++) id[word] = view.getUint32(traceIdAt + 4 * word);
      const part = this.#parts[shardOf(id, this.#parts.length)] as Part;
      if (part.end + FACT_WORDS > part.words.length) part.words = grown(part.words);
      putFacts(part.words, part.end, words, at, view, parts[row]);
      part.end += FACT_WORDS;
    }
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
