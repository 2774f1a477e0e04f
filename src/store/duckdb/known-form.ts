import { hash } from 'node:crypto';
import type { FormGaps } from '../../core/settlement.ts';
import { readLateValues } from './late-values.ts';
import { lettersOf, type StaticCells } from './rows.ts';
import { SEPARATOR } from './schema.ts';

const SEPARATOR_BYTE = SEPARATOR.charCodeAt(0);

/** A gap that stands for itself. */
const OWN = -1;

/** Ends of sentences that letter runs are kept by: how long something took says few things but numbers. */
const ENDS_KEPT = 64;
/** An end as a number must be one that is exact. */
const KEY_MAX = 2 ** 44;
const BYTE_VALUES = 256;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const FIRST_LETTER = 0x41;

/** A row of the table `forms`, but for its number. */
export interface FormRow {
  readonly digest: string;
  readonly parts: string;
  readonly places: string;
}

/** A form as this process knows it: the text that documents share, and where they differ. */
export class KnownForm {
  readonly gaps: FormGaps;
  /** With what the last record had in the gaps. */
  readonly text: Buffer;
  /** For each gap an earlier one that always has the same text, or OWN. */
  readonly #same: Int32Array;
  uses = 0;
  /** In the table `forms`; undefined where it is not. */
  number: bigint | undefined;
  #lateStarts: Int32Array | undefined | 'unread' = 'unread';
  #sentenceGap: number | undefined;
  /** Of the sentence, by the letters behind where the first gap in it begins. */
  readonly #letters = new Map<number, string>();

  private constructor(gaps: FormGaps, text: Buffer, same: Int32Array) {
    this.gaps = gaps;
    this.text = text;
    this.#same = same;
  }

  /** The form of the first text. */
  static of(gaps: FormGaps, bytes: Buffer): KnownForm {
    const { ranges } = gaps;
    const same = new Int32Array(ranges.length / 2).fill(OWN);
    for (let gap = 0; gap < same.length; gap++) {
      for (let other = 0; other < gap && same[gap] === OWN; other++) {
        if (same[other] === OWN && areEqual(bytes, ranges, gap, other)) same[gap] = other;
      }
    }
    return new KnownForm(gaps, Buffer.from(bytes), same);
  }

  /**
   * Whether a text of the form's size is that of the form but for its gaps, those are alike that were in all texts before, and no
   * character is half in a gap.
   */
  fits(bytes: Buffer): boolean {
    const { text } = this;
    const same = this.#same;
    const { ranges } = this.gaps;
    for (let gap = 0; gap < same.length; gap++) {
      const like = same[gap] as number;
      const start = ranges[2 * gap] as number;
      const end = ranges[2 * gap + 1] as number;
      if (isInside(bytes[start] as number) || isInside(bytes[end] as number)) return false;
      let from = like === OWN ? start : (ranges[2 * like] as number);
      for (let at = start; at < end; at++) {
        const byte = bytes[from++] as number;
        if (byte === SEPARATOR_BYTE) return false;
        text[at] = byte;
      }
    }
    return text.equals(bytes);
  }

  /** A form without those pairs of gaps that are not alike in this text; undefined when all are. */
  withLessSame(bytes: Buffer): KnownForm | undefined {
    const same = this.#same.map((like, gap) =>
      like !== OWN && areEqual(bytes, this.gaps.ranges, gap, like) ? like : OWN,
    );
    return same.every((like, gap) => like === this.#same[gap]) ? undefined : new KnownForm(this.gaps, this.text, same);
  }

  /** Writes the texts of gaps that stand for themselves, with separators between them. Returns where they end. */
  putGaps(bytes: Buffer, texts: Buffer, start: number): number {
    const same = this.#same;
    const { ranges } = this.gaps;
    let to = start;
    for (let gap = 0; gap < same.length; gap++) {
      if (same[gap] !== OWN) continue;
      if (to > start) texts[to++] = SEPARATOR_BYTE;
      const end = ranges[2 * gap + 1] as number;
      for (let at = ranges[2 * gap] as number; at < end; at++) texts[to++] = bytes[at] as number;
    }
    return to;
  }

  row(): FormRow {
    const { text } = this;
    const same = this.#same;
    const { ranges } = this.gaps;
    const parts: string[] = [];
    const places: number[] = [];
    let [from, texts] = [0, 0];
    for (let gap = 0; gap < same.length; gap++) {
      parts.push(text.toString('utf8', from, ranges[2 * gap]));
      from = ranges[2 * gap + 1] as number;
      const like = same[gap] as number;
      places.push(like === OWN ? ++texts : (places[like] as number));
    }
    parts.push(text.toString('utf8', from));
    const row = { parts: parts.join(SEPARATOR), places: places.join(',') };
    return { ...row, digest: hash('sha256', `${row.places}\n${row.parts}`) };
  }

  /** Where late values begin in texts of the form, by their place in `LATE_NAMES`; undefined where they cannot be read. */
  lateStarts({ isReadable, like }: StaticCells, bytes: Buffer): Int32Array | undefined {
    if (this.#lateStarts === 'unread') {
      this.#lateStarts = isReadable ? readLateValues(bytes, like)?.starts : undefined;
    }
    return this.#lateStarts;
  }

  /** The letter runs of the sentence that begins here; undefined where it has to be read as a whole. */
  lettersOf(bytes: Buffer, start: number): string | undefined {
    this.#sentenceGap ??= this.#gapOfSentence(bytes, start);
    let key = 1;
    let at = this.#sentenceGap;
    for (; bytes[at] !== QUOTE; at++) {
      const byte = bytes[at] as number;
      if (byte === BACKSLASH || key >= KEY_MAX) return undefined;
      // What is no letter stands between runs, however much there is.
      if (byte >= FIRST_LETTER) key = key * BYTE_VALUES + byte;
      else if (key % BYTE_VALUES !== 0) key *= BYTE_VALUES;
    }
    let found = this.#letters.get(key);
    if (found === undefined) {
      if (this.#letters.size >= ENDS_KEPT) this.#letters.clear();
      found = lettersOf(JSON.parse(`"${bytes.toString('utf8', start, at)}"`) as string);
      this.#letters.set(key, found);
    }
    return found;
  }

  /** Where the first gap in the sentence begins; without one, where it ends. */
  #gapOfSentence(bytes: Buffer, start: number): number {
    let end = start;
    while (bytes[end] !== QUOTE) end += bytes[end] === BACKSLASH ? 2 : 1;
    const { ranges } = this.gaps;
    for (let gap = 0; gap < ranges.length; gap += 2) {
      const first = ranges[gap] as number;
      if (first >= start && first <= end) return first;
    }
    return end;
  }
}

function areEqual(bytes: Buffer, ranges: Int32Array, gap: number, other: number): boolean {
  const start = ranges[2 * gap] as number;
  const size = (ranges[2 * gap + 1] as number) - start;
  const from = ranges[2 * other] as number;
  if ((ranges[2 * other + 1] as number) - from !== size) return false;
  for (let at = 0; at < size; at++) if (bytes[start + at] !== bytes[from + at]) return false;
  return true;
}

/** In UTF-8, a byte that no character begins with. */
function isInside(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}
