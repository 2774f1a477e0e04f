/** Where one piece of evidence lies. */
export interface PiecePlace {
  readonly segment: number;
  readonly offset: number;
  readonly itemStart: number;
  readonly isLog: boolean;
  /** Not settled and stored before. */
  readonly isNew: boolean;
}

const ITEM_MASK = 0x1fff_ffff;
const IS_LOG = 0x2000_0000;
const IS_NEW = 0x4000_0000;

/** A copy of the words with room for at least `count`; the same words when they have it. */
export function grown<Words extends Uint32Array | Uint8Array>(words: Words, count: number): Words {
  if (words.length >= count) return words;
  const more = new (words.constructor as new (length: number) => Words)(Math.max(count, words.length * 2));
  more.set(words);
  return more;
}

/**
 * Places of many pieces of one trace in four bytes a piece and 16 a frame. They are added in any order, those of one frame
 * best one after the other, and read in the order of the write-ahead log, so that each frame is opened about once.
 */
export class PieceList {
  #items = new Uint32Array(64);
  #count = 0;
  /** Runs of pieces of one frame: segment, offset, first item, items. */
  #runs = new Uint32Array(64);
  #runCount = 0;
  #logs = 0;

  get count(): number {
    return this.#count;
  }

  /** How many of them are log records. */
  get logs(): number {
    return this.#logs;
  }

  get bytes(): number {
    return this.#items.byteLength + this.#runs.byteLength;
  }

  add({ segment, offset, itemStart, isLog, isNew }: PiecePlace): void {
    const last = this.#runCount * 4 - 4;
    if (last < 0 || this.#runs[last] !== segment || this.#runs[last + 1] !== offset) {
      this.#runs = grown(this.#runs, last + 8);
      this.#runs.set([segment, offset, this.#count, 0], last + 4);
      this.#runCount++;
    }
    const run = this.#runCount * 4 - 4;
    this.#runs[run + 3] = (this.#runs[run + 3] as number) + 1;
    this.#items = grown(this.#items, this.#count + 1);
    this.#items[this.#count] = (itemStart & ITEM_MASK) | (isLog ? IS_LOG : 0) | (isNew ? IS_NEW : 0);
    this.#count++;
    if (isLog) this.#logs++;
  }

  /** The places in the order of the log. Those of one frame come together, in no particular order. */
  *[Symbol.iterator](): Generator<PiecePlace> {
    for (const run of this.#ordered()) {
      const [segment, offset, first, items] = this.#runs.subarray(run * 4, run * 4 + 4);
      for (let at = first as number; at < (first as number) + (items as number); at++) {
        yield placeOf(segment as number, offset as number, this.#items[at] as number);
      }
    }
  }

  /** Runs by place. Most lists come in one direction already, or in a few sorted parts. */
  #ordered(): Iterable<number> {
    const runs = this.#runs;
    const compare = (left: number, right: number): number =>
      (runs[left * 4] as number) - (runs[right * 4] as number) ||
      (runs[left * 4 + 1] as number) - (runs[right * 4 + 1] as number) ||
      left - right;
    const order = Array.from({ length: this.#runCount }, (_, index) => index);
    if (order.length > 1 && compare(0, order.length - 1) > 0) order.reverse();
    // Adaptive: parts in order are only merged.
    return order.sort(compare);
  }
}

export function placeOf(segment: number, offset: number, item: number): PiecePlace {
  return {
    segment,
    offset,
    itemStart: item & ITEM_MASK,
    isLog: (item & IS_LOG) !== 0,
    isNew: (item & IS_NEW) !== 0,
  };
}

export function itemOf({ itemStart, isLog, isNew }: PiecePlace): number {
  return itemStart | (isLog ? IS_LOG : 0) | (isNew ? IS_NEW : 0);
}
