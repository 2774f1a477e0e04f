import { SeenHashes } from '../core/seen-hashes.ts';
import { PartContents } from './part-contents.ts';

const PRIME = 0x9e3779b1;
const OTHER_PRIME = 0x85ebca6b;

/** Slots, a power of two: what the services of one Collector say in a moment. */
const SLOTS = 16_384;

/** Slots that a part may be in: else two that happen to share one would displace each other for ever. */
const WAYS = 4;

/** Bytes of one part, with room for a long statement or a stack trace; larger ones seldom repeat. */
const PART_BYTES_MAX = 16 * 1024;

/** Bytes of all that is kept. What is decoded, and remembered by it, takes some times as much. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

/** Hashes of spans that came once, a power of two: what comes again comes again soon. */
const SEEN = 65_536;

/** Runs of bytes between ids and times; usual encoders write two, and one more for each event and link. */
const RUNS_MAX = 16;

/** Bytes are compared in words of so many, the last of which overlaps the one before. */
const WORD_BYTES = 8;

/** What a part's bytes stand for: the same bytes mean something else elsewhere. */
export type PartKind = 'resource' | 'scope' | 'root' | 'child';
const KIND_NUMBERS: Readonly<Record<PartKind, number>> = { resource: 0, scope: 1, root: 2, child: 3 };

/** No part has it. */
export const NO_PART = 0;

class Entry extends PartContents {
  readonly above: number;
  readonly kind: PartKind;
  /** Bytes of each run. */
  readonly lengths: readonly number[];
  /** The runs one after the other: whole words, then the last eight bytes of the run, or what there is of it. */
  readonly words: BigInt64Array;
  /** The same, low half first. */
  readonly halves: Int32Array;
  /** Since the hand last came by. */
  isUsed = true;

  constructor(number: number, above: number, kind: PartKind, lengths: number[], words: BigInt64Array) {
    super(number);
    this.above = above;
    this.kind = kind;
    this.lengths = lengths;
    this.words = words;
    this.halves = new Int32Array(words.buffer);
  }
}

export type { Entry as NumberedPart };

/**
 * Resources, scopes and spans (without ids and times) by their very bytes: most of what a service says it said before. Exact: what
 * is found has the same bytes throughout, below the same resource and scope. Of bounded size; what was not asked for lately goes
 * first. What it keeps must hold no secrets, so it is filled with what has been masked.
 */
export class KnownParts {
  readonly #slots: (Entry | undefined)[] = new Array(SLOTS).fill(undefined);
  /** Of what is in each slot: nearly all that is not meant is passed over without being looked at. */
  readonly #hashes = new Int32Array(SLOTS);
  /** Of spans that were asked for and not known. */
  readonly #seen = new SeenHashes(SEEN);
  readonly #keptBytesMax: number;
  #keptBytes = 0;
  #hand = 0;
  #numbers = NO_PART;
  /** Starts and ends of the runs of the part in question, and their bytes. */
  readonly #runs = new Int32Array(2 * RUNS_MAX);
  #runCount = 0;
  #bytes = 0;
  #hash = 0;
  #view: DataView = new DataView(new ArrayBuffer(0));

  constructor(keptBytesMax = KEPT_BYTES_MAX) {
    this.#keptBytesMax = keptBytesMax;
  }

  /** The payload in which the parts lie that are asked for. */
  open(view: DataView): void {
    this.#view = view;
  }

  /** Begins another part. */
  begin(): void {
    this.#runCount = 0;
    this.#bytes = 0;
    this.#hash = 0;
  }

  /** Adds bytes to it. False when it is none to be known. */
  add(start: number, end: number): boolean {
    const run = this.#runCount;
    this.#bytes += end - start;
    if (run === RUNS_MAX || this.#bytes > PART_BYTES_MAX) return false;
    this.#runs[2 * run] = start;
    this.#runs[2 * run + 1] = end;
    this.#runCount = run + 1;
    return true;
  }

  /** The part that was put together, below the one with the number `above` (a scope's resource, a span's scope), if it is known. */
  find(kind: PartKind, above: number): Entry | undefined {
    let hash = Math.imul(above + 1, PRIME) ^ KIND_NUMBERS[kind];
    for (let run = 0; run < this.#runCount; run++) {
      hash = hashOf(this.#view, this.#runs[2 * run] as number, this.#runs[2 * run + 1] as number, hash);
    }
    this.#hash = hash;
    const first = this.#setOf();
    for (let slot = first; slot < first + WAYS; slot++) {
      if (this.#hashes[slot] !== hash) continue;
      const entry = this.#slots[slot];
      if (entry === undefined || !this.#isIn(entry, above, kind)) continue;
      if (!entry.isUsed) entry.isUsed = true;
      return entry;
    }
    return undefined;
  }

  /** Was the part that `find` did not find asked for before, as far as is known? It is from now on. */
  wasSeen(): boolean {
    return this.#seen.see(this.#hash);
  }

  /** Keeps the part that `find` did not find. */
  keep(kind: PartKind, above: number): Entry {
    const words = this.#wordsOf();
    const entry = new Entry(++this.#numbers, above, kind, this.#lengths(), words);
    const first = this.#setOf();
    let slot = first;
    while (slot < first + WAYS && this.#slots[slot] !== undefined) slot++;
    if (slot === first + WAYS) slot = this.#leastUsed(first);
    this.#drop(slot);
    this.#slots[slot] = entry;
    this.#hashes[slot] = this.#hash;
    this.#keptBytes += words.byteLength;
    while (this.#keptBytes > this.#keptBytesMax) this.#turn();
    return entry;
  }

  /** Parts that share their lowest bits have a few slots together. */
  #setOf(): number {
    return (this.#hash & (SLOTS / WAYS - 1)) * WAYS;
  }

  #leastUsed(first: number): number {
    for (let slot = first; slot < first + WAYS; slot++) if (this.#slots[slot]?.isUsed === false) return slot;
    for (let slot = first; slot < first + WAYS; slot++) {
      const entry = this.#slots[slot];
      if (entry) entry.isUsed = false;
    }
    return first + (this.#numbers % WAYS);
  }

  /** Moves the hand on: what was not used since it last came by goes. */
  #turn(): void {
    const slot = this.#hand++ & (SLOTS - 1);
    const entry = this.#slots[slot];
    if (entry?.isUsed) entry.isUsed = false;
    else this.#drop(slot);
  }

  #drop(slot: number): void {
    this.#keptBytes -= this.#slots[slot]?.words.byteLength ?? 0;
    this.#slots[slot] = undefined;
  }

  #isIn({ above, kind, lengths, words, halves }: Entry, otherAbove: number, otherKind: PartKind): boolean {
    if (above !== otherAbove || kind !== otherKind || lengths.length !== this.#runCount) return false;
    const view = this.#view;
    let word = 0;
    for (let run = 0; run < this.#runCount; run++) {
      const end = this.#runs[2 * run + 1] as number;
      let at = this.#runs[2 * run] as number;
      const length = end - at;
      if (lengths[run] !== length) return false;
      for (; at < end - WORD_BYTES; at += WORD_BYTES) if (words[word++] !== view.getBigInt64(at, true)) return false;
      if (length < WORD_BYTES) {
        if (!isShortIn(halves, 2 * word++, view, at, end)) return false;
      } else if (words[word++] !== view.getBigInt64(end - WORD_BYTES, true)) return false;
    }
    return true;
  }

  #lengths(): number[] {
    return Array.from(
      { length: this.#runCount },
      (_, run) => (this.#runs[2 * run + 1] as number) - (this.#runs[2 * run] as number),
    );
  }

  #wordsOf(): BigInt64Array {
    const words: bigint[] = [];
    for (let run = 0; run < this.#runCount; run++) {
      const last = (this.#runs[2 * run + 1] as number) - WORD_BYTES;
      for (let at = this.#runs[2 * run] as number; at < last; at += WORD_BYTES)
        words.push(this.#view.getBigInt64(at, true));
      words.push(last < (this.#runs[2 * run] as number) ? this.#shortWord(run) : this.#view.getBigInt64(last, true));
    }
    return new BigInt64Array(words);
  }

  /** All of a run that is shorter than a word. */
  #shortWord(run: number): bigint {
    const start = this.#runs[2 * run] as number;
    const end = this.#runs[2 * run + 1] as number;
    let word = 0n;
    for (let at = start; at < end; at++) word = (word << 8n) | BigInt(this.#view.getUint8(at));
    return word;
  }
}

/** As `#shortWord` has it, in halves: a BigInt would be an object. */
function isShortIn(halves: Int32Array, low: number, view: DataView, start: number, end: number): boolean {
  let lower = 0;
  let upper = 0;
  for (let at = start; at < end; at++) {
    upper = (upper << 8) | (lower >>> 24);
    lower = (lower << 8) | view.getUint8(at);
  }
  return halves[low] === lower && halves[low + 1] === upper;
}

/** Of no use against an attacker, who could only make parts displace each other. Four lanes, so that none waits for another. */
function hashOf(view: DataView, start: number, end: number, seed: number): number {
  let first = seed;
  let second = end - start;
  let third = seed ^ OTHER_PRIME;
  let fourth = PRIME | 0;
  let at = start;
  for (const last = end - 16; at <= last; at += 16) {
    first = Math.imul(first ^ view.getInt32(at, true), PRIME);
    second = Math.imul(second ^ view.getInt32(at + 4, true), OTHER_PRIME);
    third = Math.imul(third ^ view.getInt32(at + 8, true), PRIME);
    fourth = Math.imul(fourth ^ view.getInt32(at + 12, true), OTHER_PRIME);
    first = (first << 13) | (first >>> 19);
    second = (second << 13) | (second >>> 19);
    third = (third << 13) | (third >>> 19);
    fourth = (fourth << 13) | (fourth >>> 19);
  }
  for (; at < end; at++) first = Math.imul(first ^ view.getUint8(at), PRIME);
  let mixed =
    Math.imul(first ^ (third >>> 16) ^ (third << 16), OTHER_PRIME) ^ (second ^ (fourth >>> 16) ^ (fourth << 16));
  mixed = Math.imul(mixed ^ (mixed >>> 15), PRIME);
  return mixed ^ (mixed >>> 16);
}
