import { type FrameNote, isPlain } from '../core/evidence.ts';
import { FACT, FACT_WORDS, putFacts } from '../core/span-columns.ts';
import { type KnownPart, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { PartContents } from '../otlp/part-contents.ts';
import { trustOf } from '../otlp/span-contents.ts';
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
export function frameSpansOf(frame: StoredFrame, rows: SpanRows): FrameSpans | undefined {
  return isPlain(frame.note) ? spansIn(frame, rows, new Uint32Array(rows.count * FACT_WORDS)) : undefined;
}

/** Writes all words of the facts. */
function spansIn({ position, note, payload }: StoredFrame, rows: SpanRows, facts: Uint32Array): FrameSpans {
  const { count, words, parts } = rows;
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

/** All facts that are kept: a third of a million spans, of the two seconds or so in which most traces are waited for, at the rate that one core takes. */
const WORDS_MAX = 350_000 * FACT_WORDS;
/** Left free behind each frame's facts: what is kept of a frame besides, so that frames of few spans do not become too many. */
const FRAME_WORDS = 128;

/**
 * Frames that came lately and have traces that wait. Traces settle in about the order in which they came: when there is no more
 * room, frames before the one that was asked for last make way, and without such ones what comes is not kept. Were the
 * oldest to go instead, a little too much of all would leave none that is asked for. All facts lie in one ring, written over
 * again and again: what was found is to be used before the next frame is added.
 */
export class RecentSpans {
  /** In the order of the ring. */
  readonly #frames = new Map<number, FrameSpans>();
  readonly #numbered = new NumberedParts();
  #ring: Uint32Array | undefined;
  /** Word behind the newest frame, and the first one of the oldest; the same in a ring that is full. */
  #end = 0;
  #start = 0;
  #askedFor = 0;

  /** Of a frame that somebody has walked through. */
  add(frame: StoredFrame): void {
    const { spans, signal, note } = frame;
    if (spans === undefined || signal !== 'traces' || !isPlain(note)) return;
    const facts = this.#roomFor(spans.count);
    if (facts !== undefined) this.#put(spansIn(frame, spans, facts));
  }

  /** Of spans that came from another thread. */
  addMailed({ position, note, isPlain, count, facts: mailed }: MailedSpans): void {
    const facts = isPlain ? this.#roomFor(count) : undefined;
    if (facts === undefined) return;
    facts.set(mailed);
    const parts = this.#numbered.partsOf(facts, count);
    this.#put({ key: positionKey(position), note, trust: trustOf(note), count, facts, parts, next: 0 });
  }

  find(position: FramePosition): FrameSpans | undefined {
    const key = positionKey(position);
    if (key > this.#askedFor) this.#askedFor = key;
    return this.#frames.get(key);
  }

  #put(spans: FrameSpans): void {
    if (this.#frames.has(spans.key)) return;
    if (this.#frames.size === 0) this.#start = spans.facts.byteOffset / 4;
    this.#end = spans.facts.byteOffset / 4 + spans.facts.length + FRAME_WORDS;
    this.#frames.set(spans.key, spans);
  }

  /** Room for the facts of so many spans; makes it where it can. */
  #roomFor(count: number): Uint32Array | undefined {
    const words = count * FACT_WORDS + FRAME_WORDS;
    let at = this.#freeAt(words);
    for (const [key] of this.#frames) {
      if (at >= 0 || key >= this.#askedFor) break;
      this.#forgetOldest(key);
      at = this.#freeAt(words);
    }
    if (at < 0) return undefined;
    this.#ring ??= new Uint32Array(WORDS_MAX);
    return this.#ring.subarray(at, at + words - FRAME_WORDS);
  }

  #forgetOldest(key: number): void {
    this.#frames.delete(key);
    const [oldest] = this.#frames.values();
    if (oldest !== undefined) this.#start = oldest.facts.byteOffset / 4;
  }

  /** Where so many words are free, one behind the other; -1 for nowhere. */
  #freeAt(words: number): number {
    if (this.#frames.size === 0) return words <= WORDS_MAX ? 0 : -1;
    const isWrapped = this.#end <= this.#start;
    if (this.#end + words <= (isWrapped ? this.#start : WORDS_MAX)) return this.#end;
    return !isWrapped && words <= this.#start ? 0 : -1;
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
