import type { FrameNote } from '../core/evidence.ts';
import { FACT, FACT_WORDS, putFacts } from '../core/span-columns.ts';
import { type KnownPart, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { PartContents } from '../otlp/part-contents.ts';
import { isPlain, trustOf } from '../otlp/span-contents.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { type FramePosition, positionKey } from '../wal/segment-format.ts';
import type { MailedSpans } from './shard-mail.ts';

/** What settles by form go by of the spans of one frame, or of those of one shard: all but their bytes. */
export interface FrameSpans {
  readonly key: number;
  readonly note: FrameNote;
  /** `trustOf` its sender. */
  readonly trust: number;
  readonly count: number;
  /** `FACT_WORDS` a span, in the order of the payload. */
  readonly facts: Uint32Array;
  /** By span: what its bytes are known by. */
  readonly parts: readonly (KnownPart | undefined)[];
  /** The span after the one that was asked for last. */
  next: number;
}

/** Undefined where equal bytes may say different things. */
export function frameSpansOf({ position, note, payload }: StoredFrame, rows: SpanRows): FrameSpans | undefined {
  if (!isPlain(note)) return undefined;
  const { count, words, parts } = rows;
  const facts = new Uint32Array(count * FACT_WORDS);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  for (let row = 0; row < count; row++) putFacts(facts, row * FACT_WORDS, words, row * ROW_WORDS, view, parts[row]);
  return { key: positionKey(position), note, trust: trustOf(note), count, facts, parts, next: 0 };
}

/** Is this the span's trace id? */
export function isOfTrace({ facts }: FrameSpans, span: number, id: Uint32Array): boolean {
  const at = span * FACT_WORDS + FACT.traceId;
  for (let word = 0; word < id.length; word++) if (facts[at + word] !== id[word]) return false;
  return true;
}

/** What a span takes: its facts, and a reference to what is known of it. */
const SPAN_BYTES = 4 * FACT_WORDS + 8;
const FRAME_BYTES = 512;

/** A third of a million spans: of the two seconds or so in which most traces are waited for, at the rate that one core takes. */
const BYTES_MAX = 24 * 1024 * 1024;

/**
 * Frames that came lately and have traces that wait. Traces settle in about the order in which they came: when there is no more
 * room, frames before the one that was asked for last make way, and without such ones what comes is not kept. Were the
 * oldest to go instead, a little too much of all would leave none that is asked for.
 */
export class RecentSpans {
  readonly #frames = new Map<number, FrameSpans>();
  readonly #numbered = new NumberedParts();
  #bytes = 0;
  #askedFor = 0;

  /** Of a frame that somebody has walked through. */
  add(frame: StoredFrame): void {
    if (frame.spans === undefined || frame.signal !== 'traces' || !this.#hasRoomFor(frame.spans.count)) return;
    const spans = frameSpansOf(frame, frame.spans);
    if (spans !== undefined) this.#put(spans);
  }

  /** Of spans that came from another thread. */
  addMailed({ position, note, isPlain, count, facts }: MailedSpans): void {
    if (!isPlain || !this.#hasRoomFor(count)) return;
    const parts = this.#numbered.partsOf(facts, count);
    this.#put({ key: positionKey(position), note, trust: trustOf(note), count, facts, parts, next: 0 });
  }

  /** Makes room where it can. */
  #hasRoomFor(count: number): boolean {
    const bytes = bytesOf(count);
    if (this.#bytes + bytes > BYTES_MAX) this.#makeRoom(bytes);
    return this.#bytes + bytes <= BYTES_MAX;
  }

  #put(spans: FrameSpans): void {
    this.#frames.set(spans.key, spans);
    this.#bytes += bytesOf(spans.count);
  }

  find(position: FramePosition): FrameSpans | undefined {
    const key = positionKey(position);
    if (key > this.#askedFor) this.#askedFor = key;
    return this.#frames.get(key);
  }

  #makeRoom(bytes: number): void {
    for (const [key, { count }] of this.#frames) {
      if (key >= this.#askedFor || this.#bytes + bytes <= BYTES_MAX) return;
      this.#frames.delete(key);
      this.#bytes -= bytesOf(count);
    }
  }
}

/** A power of two, as many as admission knows. */
const PARTS_MAX = 16_384;

/**
 * Parts that another thread knows by their bytes, by the numbers that it gave them: this one learns what they say from the
 * first frame that has them. A number that comes takes the place of one that came so many before it.
 */
class NumberedParts {
  readonly #parts: (PartContents | undefined)[] = new Array(PARTS_MAX).fill(undefined);

  partsOf(facts: Uint32Array, count: number): (KnownPart | undefined)[] {
    const parts: (KnownPart | undefined)[] = [];
    for (let span = 0; span < count; span++) {
      const number = facts[span * FACT_WORDS + FACT.part] as number;
      parts.push(number === 0 ? undefined : this.#partOf(number));
    }
    return parts;
  }

  #partOf(number: number): PartContents {
    const place = number & (PARTS_MAX - 1);
    const known = this.#parts[place];
    if (known?.number === number) return known;
    const part = new PartContents(number);
    this.#parts[place] = part;
    return part;
  }
}

function bytesOf(count: number): number {
  return count * SPAN_BYTES + FRAME_BYTES;
}
