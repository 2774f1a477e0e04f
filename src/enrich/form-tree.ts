import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { NONE } from './trace-tree.ts';

/** Words of the key of one span: content, sender, parent, flags. */
export const KEY_WORDS = 4;

const HIGH_NS = 0x1_0000_0000;
const HIGH_MS = 4294;
const HIGH_REST_NS = HIGH_NS - HIGH_MS * 1e6;
const PRIME = 0x9e3779b1;

/**
 * The tree of a trace in columns, in the order that `buildTree` gives its spans: by start and span id, then parents before
 * children, level by level. Filled again for each trace.
 */
export class FormTree {
  count = 0;
  /** Place in the columns, by place in the tree. */
  readonly columnOf = new Int32Array(COLUMN_SPANS_MAX);
  readonly parent = new Int32Array(COLUMN_SPANS_MAX);
  /** Nanoseconds from `base`. */
  readonly start = new Float64Array(COLUMN_SPANS_MAX);
  readonly end = new Float64Array(COLUMN_SPANS_MAX);
  /** Halves of the earliest start, epoch nanoseconds. */
  baseHigh = 0;
  baseLow = 0;
  /** The same, once `setBase` was called: whole milliseconds, and the nanoseconds that are left. */
  baseMs = 0;
  baseRestNs = 0;
  /** All that a settle goes by, apart from times and ids: `KEY_WORDS` a span; numbers of contents grow beyond 32 bits. */
  readonly key = new Float64Array(COLUMN_SPANS_MAX * KEY_WORDS);
  hash = 0;
  /** By place in the order of starts. */
  readonly #sorted = new Int32Array(COLUMN_SPANS_MAX);
  readonly #above = new Int32Array(COLUMN_SPANS_MAX);
  readonly #startOf = new Float64Array(COLUMN_SPANS_MAX);
  readonly #placeOf = new Int32Array(COLUMN_SPANS_MAX);

  /**
   * False for what asks for a whole settle: a span id that came twice, a parent link that leads back to its span, two parents that
   * never came.
   */
  build(columns: SpanColumns, senders: Int32Array): boolean {
    const { count } = columns;
    this.count = count;
    this.#findBase(columns);
    this.#sort(columns);
    return this.#link(columns) && this.#order(columns, senders);
  }

  setBase(): void {
    // Of 2^32 nanoseconds 4294 milliseconds are whole. Nothing here needs more than 53 bits.
    const restNs = this.baseHigh * HIGH_REST_NS + this.baseLow;
    const restMs = Math.floor(restNs / 1e6);
    this.baseMs = this.baseHigh * HIGH_MS + restMs;
    this.baseRestNs = restNs - restMs * 1e6;
  }

  /** Epoch milliseconds, rounded down, at which the span at this place starts. */
  startMs(at: number): number {
    return this.baseMs + Math.floor((this.baseRestNs + (this.start[at] as number)) / 1e6);
  }

  #findBase({ count, startHigh, startLow }: SpanColumns): void {
    let high = startHigh[0] as number;
    let low = startLow[0] as number;
    for (let at = 1; at < count; at++) {
      const otherHigh = startHigh[at] as number;
      const otherLow = startLow[at] as number;
      if (otherHigh > high || (otherHigh === high && otherLow >= low)) continue;
      high = otherHigh;
      low = otherLow;
    }
    this.baseHigh = high;
    this.baseLow = low;
  }

  #sort({ count, startHigh, startLow, idHigh, idLow }: SpanColumns): void {
    const sorted = this.#sorted;
    const startOf = this.#startOf;
    for (let at = 0; at < count; at++) {
      const start = ((startHigh[at] as number) - this.baseHigh) * HIGH_NS + ((startLow[at] as number) - this.baseLow);
      startOf[at] = start;
      let to = at - 1;
      for (; to >= 0; to--) {
        const other = sorted[to] as number;
        const before = startOf[other] as number;
        if (before < start) break;
        if (before === start && isLess(idHigh, idLow, other, at)) break;
        sorted[to + 1] = other;
      }
      sorted[to + 1] = at;
    }
  }

  /** The parent of each span, by place in the order of starts. */
  #link({ count, idHigh, idLow, parentHigh, parentLow }: SpanColumns): boolean {
    const sorted = this.#sorted;
    const above = this.#above;
    let missing = 0;
    let mayCycle = false;
    for (let at = 0; at < count; at++) {
      const span = sorted[at] as number;
      const high = idHigh[span] as number;
      const low = idLow[span] as number;
      const wantedHigh = parentHigh[span] as number;
      const wantedLow = parentLow[span] as number;
      let found = NONE;
      for (let other = 0; other < count; other++) {
        const candidate = sorted[other] as number;
        if (idLow[candidate] === wantedLow && idHigh[candidate] === wantedHigh) found = other;
        if (other < at && idLow[candidate] === low && idHigh[candidate] === high) return false;
      }
      above[at] = found;
      if (found >= at) mayCycle = true;
      if (found === NONE && (wantedHigh | wantedLow) !== 0 && ++missing > 1) return false;
    }
    return !mayCycle || this.#hasNoCycle();
  }

  #hasNoCycle(): boolean {
    const above = this.#above;
    for (let from = 0; from < this.count; from++) {
      let steps = 0;
      for (let at = above[from] as number; at !== NONE; at = above[at] as number)
        if (++steps > this.count) return false;
    }
    return true;
  }

  #order(columns: SpanColumns, senders: Int32Array): boolean {
    const { count, contents, flags, endHigh, endLow } = columns;
    const { columnOf, parent, key } = this;
    const above = this.#above;
    const placeOf = this.#placeOf;
    let to = 0;
    let hash = count;
    for (let at = 0; at < count; at++) if (above[at] === NONE) to = this.#put(at, NONE, to);
    for (let at = 0; at < to; at++) {
      const place = placeOf[at] as number;
      for (let child = 0; child < count; child++) if (above[child] === place) to = this.#put(child, at, to);
    }
    for (let at = 0; at < count; at++) {
      const span = this.#sorted[placeOf[at] as number] as number;
      columnOf[at] = span;
      this.start[at] = this.#startOf[span] as number;
      this.end[at] = ((endHigh[span] as number) - this.baseHigh) * HIGH_NS + ((endLow[span] as number) - this.baseLow);
      const word = at * KEY_WORDS;
      key[word] = contents[span] as number;
      key[word + 1] = senders[span] as number;
      key[word + 2] = parent[at] as number;
      key[word + 3] = flags[span] as number;
      hash = Math.imul(hash ^ (key[word] as number), PRIME) ^ (hash >>> 15);
      hash = Math.imul(hash ^ ((key[word + 1] as number) << 16) ^ (key[word + 2] as number), PRIME) ^ (hash >>> 13);
      hash = Math.imul(hash ^ (key[word + 3] as number), PRIME) ^ (hash >>> 16);
      if ((this.end[at] as number) > Number.MAX_SAFE_INTEGER) return false;
    }
    this.hash = hash >>> 0;
    return true;
  }

  #put(at: number, parent: number, to: number): number {
    this.#placeOf[to] = at;
    this.parent[to] = parent;
    return to + 1;
  }
}

function isLess(high: Uint32Array, low: Uint32Array, left: number, right: number): boolean {
  const difference = (high[left] as number) - (high[right] as number);
  return difference < 0 || (difference === 0 && (low[left] as number) < (low[right] as number));
}
