import { hexOfWords } from '../core/hex.ts';
import { grown } from './huge-pieces.ts';
import { mixWords, NO_ENTRY, SlotTable } from './slot-table.ts';

/** The number that stands for no span id. */
export const NO_SPAN = 0;

export const SPAN_FLAG = {
  /** Some span names it as its parent. */
  parent: 1,
  /** Its way up ends at a root, which may be itself. */
  rooted: 2,
  /** An access is above it; a trusted one. */
  inner: 4,
  innerTrusted: 8,
  /** On the way from an access to its root, or what an access names as its span. */
  way: 16,
  /** Its link to its parent closed a cycle. */
  cut: 32,
  ordered: 64,
} as const;

/**
 * The span ids of one huge trace, numbered: those that came, each with what its best content says, and those that are only named as
 * parents. 57 bytes an id and its slot.
 */
export class HugeSpans {
  count = 1;
  high = new Uint32Array(64);
  low = new Uint32Array(64);
  /** The piece that holds the content that stands; NO_ENTRY for an id that never came. */
  winner = new Uint32Array(64);
  /** What that content says: the number of its parent, its times in halves, how many attributes it has. */
  parent = new Uint32Array(64);
  startHigh = new Uint32Array(64);
  startLow = new Uint32Array(64);
  endHigh = new Uint32Array(64);
  endLow = new Uint32Array(64);
  attributes = new Uint32Array(64);
  /** Number of its service's name. */
  service = new Uint32Array(64);
  flags = new Uint8Array(64);
  /** The parent where that came and no cycle is closed by it. Set by `link`, as all below. */
  above = new Uint32Array(0);
  /** All that came, parents before children. */
  order = new Uint32Array(0);
  ordered = 0;
  /** The topmost id above each. */
  top = new Uint32Array(0);
  /** The nearest chosen one above each. */
  near = new Uint32Array(0);
  readonly #slots: SlotTable;

  constructor(expected: number) {
    this.#slots = new SlotTable(expected);
  }

  get bytes(): number {
    const columns = [this.high, this.low, this.winner, this.parent, this.startHigh, this.startLow, this.endHigh];
    columns.push(this.endLow, this.attributes, this.service, this.above, this.order, this.top, this.near);
    return columns.reduce((sum, column) => sum + column.byteLength, this.flags.byteLength + this.#slots.bytes);
  }

  /** The number of this id, a new one if it has none. */
  numberOf(high: number, low: number): number {
    if (high === 0 && low === 0) return NO_SPAN;
    const hash = mixWords(this.#slots.seed, high, low);
    const known = this.#slots.find(hash, (number) => this.high[number] === high && this.low[number] === low);
    if (known !== NO_ENTRY) return known;
    const number = this.count++;
    this.#grow();
    this.high[number] = high;
    this.low[number] = low;
    this.#slots.add(hash, number);
    return number;
  }

  has(number: number, flag: number): boolean {
    return ((this.flags[number] as number) & flag) !== 0;
  }

  mark(number: number, flag: number): void {
    this.flags[number] = (this.flags[number] as number) | flag;
  }

  hex(number: number): string {
    return hexOfWords(this.high, number, 1) + hexOfWords(this.low, number, 1);
  }

  /** Order of the ids themselves; none comes last. */
  compare(left: number, right: number): number {
    if (left === right) return 0;
    if (left === NO_SPAN || right === NO_SPAN) return left === NO_SPAN ? 1 : -1;
    return (
      (this.high[left] as number) - (this.high[right] as number) ||
      (this.low[left] as number) - (this.low[right] as number)
    );
  }

  #grow(): void {
    const { count } = this;
    if (this.high.length >= count) return;
    this.high = grown(this.high, count);
    this.low = grown(this.low, count);
    this.winner = grown(this.winner, count);
    this.parent = grown(this.parent, count);
    this.startHigh = grown(this.startHigh, count);
    this.startLow = grown(this.startLow, count);
    this.endHigh = grown(this.endHigh, count);
    this.endLow = grown(this.endLow, count);
    this.attributes = grown(this.attributes, count);
    this.service = grown(this.service, count);
    this.flags = grown(this.flags, count);
  }
}
