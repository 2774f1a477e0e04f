import { type FrameNote, isPlain } from '../core/evidence.ts';
import { FACT_WORDS } from '../core/span-columns.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { FramePosition } from '../wal/segment-format.ts';

/** What of a note frames of one sender have in common. */
type SharedNote = Omit<FrameNote, 'receivedNs'>;

/** Frames on their way to a shard on another thread: of each a head, then what is told of those of its spans that are the shard's. */
export interface ShardMail {
  /** To be transferred. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Which the heads go by. */
  readonly notes: readonly SharedNote[];
}

/** A shard's spans of one frame. */
export interface MailedSpans {
  readonly position: FramePosition;
  /** Without what was found in the request. */
  readonly note: FrameNote;
  /** Nothing was found in it. */
  readonly isPlain: boolean;
  readonly count: number;
  /** `FACT_WORDS` a span, in the order of the payload; a part of the message's memory. */
  readonly facts: Uint32Array;
  /** Epoch milliseconds. */
  readonly nowMs: number;
  readonly isReplay: boolean;
}

/** Words before the spans of each frame; times have a high and a low half. */
const HEAD = { segment: 0, offset: 1, count: 2, flags: 3, note: 4, receivedNs: 5, nowMs: 7 } as const;
const HEAD_WORDS = 9;
const FLAG = { plain: 1, replay: 2 } as const;

const WORDS_FIRST = 4096;
/** It is sent with so many: a thousand spans, whose message costs little beside them. */
const WORDS_FULL = 16_384;

/** Gathers frames for one shard, so that many cross in one message. */
export class MailWriter {
  #words = new Uint32Array(WORDS_FIRST);
  #end = 0;
  #notes: SharedNote[] = [];

  get isEmpty(): boolean {
    return this.#end === 0;
  }

  get isFull(): boolean {
    return this.#end >= WORDS_FULL;
  }

  /** Adds the shard's spans of a frame, `FACT_WORDS` each; they are copied. */
  add({ position, note }: StoredFrame, facts: Uint32Array, nowMs: number, isReplay: boolean): void {
    const start = this.#end;
    const end = start + HEAD_WORDS + facts.length;
    if (end > this.#words.length) this.#grow(end);
    const words = this.#words;
    words[start + HEAD.segment] = position.segment;
    words[start + HEAD.offset] = position.offset;
    words[start + HEAD.count] = facts.length / FACT_WORDS;
    words[start + HEAD.flags] = (isPlain(note) ? FLAG.plain : 0) | (isReplay ? FLAG.replay : 0);
    words[start + HEAD.note] = this.#noteNumber(note);
    words[start + HEAD.receivedNs] = Number(note.receivedNs >> 32n);
    words[start + HEAD.receivedNs + 1] = Number(note.receivedNs & 0xff_ff_ff_ffn);
    words[start + HEAD.nowMs] = nowMs / 2 ** 32;
    words[start + HEAD.nowMs + 1] = nowMs;
    words.set(facts, start + HEAD_WORDS);
    this.#end = end;
  }

  /** What was gathered since the last time. */
  take(): ShardMail {
    const mail = { words: this.#words.slice(0, this.#end), notes: this.#notes };
    this.#end = 0;
    this.#notes = [];
    return mail;
  }

  #grow(length: number): void {
    const larger = new Uint32Array(Math.max(2 * this.#words.length, length));
    larger.set(this.#words.subarray(0, this.#end));
    this.#words = larger;
  }

  /** Neighbours mostly come from one sender. */
  #noteNumber({ namespace, sender, trusted, vouches, peer, tokens }: FrameNote): number {
    const last = this.#notes.at(-1);
    const isLast =
      last?.sender === sender &&
      last.peer === peer &&
      last.namespace === namespace &&
      last.trusted === trusted &&
      last.vouches === vouches &&
      (last.tokens === undefined) === (tokens === undefined);
    if (!isLast) this.#notes.push({ namespace, sender, trusted, vouches, peer, ...(tokens && { tokens: {} }) });
    return this.#notes.length - 1;
  }
}

/** The frames of a message, in the order in which they were added. */
export function* readMail({ words, notes }: ShardMail): Generator<MailedSpans> {
  for (let start = 0; start < words.length; ) {
    const word = (of: number) => words[start + of] as number;
    const count = word(HEAD.count);
    const end = start + HEAD_WORDS + count * FACT_WORDS;
    const receivedNs = (BigInt(word(HEAD.receivedNs)) << 32n) | BigInt(word(HEAD.receivedNs + 1));
    yield {
      position: { segment: word(HEAD.segment), offset: word(HEAD.offset) },
      note: { receivedNs, ...(notes[word(HEAD.note)] as SharedNote) },
      isPlain: (word(HEAD.flags) & FLAG.plain) !== 0,
      count,
      facts: words.subarray(start + HEAD_WORDS, end),
      nowMs: word(HEAD.nowMs) * 2 ** 32 + word(HEAD.nowMs + 1),
      isReplay: (word(HEAD.flags) & FLAG.replay) !== 0,
    };
    start = end;
  }
}
