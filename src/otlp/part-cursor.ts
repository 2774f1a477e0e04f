import { type KnownPart, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';

/** Where no more than one span in so many has to be searched, it is searched by itself. */
const NEARLY_ONE_IN = 8;

/** Finds what is known of the parts of a request, asked in the order of its bytes. */
export class PartCursor {
  readonly #rows: SpanRows;
  /** Nearly all spans are known to be clean. */
  readonly isNearlyClean: boolean;
  #row = 0;
  #head = 0;

  constructor(rows: SpanRows) {
    this.#rows = rows;
    let clean = 0;
    for (const part of rows.parts) if (part?.isClean) clean++;
    this.isNearlyClean = rows.count - clean < rows.count / NEARLY_ONE_IN;
  }

  /** Of the resource, scope or span that starts there. */
  partAt(start: number): KnownPart | undefined {
    const { words, parts, heads, count } = this.#rows;
    while (this.#row < count && (words[this.#row * ROW_WORDS] as number) < start) this.#row++;
    if (this.#row < count && words[this.#row * ROW_WORDS] === start) return parts[this.#row];
    while (this.#head < heads.length && (heads[this.#head]?.start ?? 0) < start) this.#head++;
    const head = heads[this.#head];
    return head?.start === start ? head.part : undefined;
  }
}
