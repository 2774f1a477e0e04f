import { assert } from '../core/assert.ts';
import { NONE, WordPool } from './word-pool.ts';

/**
 * The index from trace id to evidence: three pools of fixed-size items (traces, pieces of evidence, frames of the
 * write-ahead log) and an open-addressing hash over the traces. 92 bytes and a hash slot a trace, 28 a piece, 32 a frame.
 */

/** Words of a trace. Times are the low 32 bits of epoch milliseconds: compare them by difference only (see `since`). */
export const TRACE = {
  id: 0,
  namespace: 4,
  /** Newest piece of evidence. */
  head: 5,
  pieces: 6,
  pending: 7,
  flags: 8,
  /** Where its last entry in the settle journal is; an offset of zero is nowhere. */
  journalSegment: 9,
  journalOffset: 10,
  previous: 11,
  next: 12,
  list: 13,
  firstMs: 14,
  lastMs: 15,
  rootMs: 16,
  settledMs: 17,
  dueMs: 18,
  /** How its evidence was counted so far, in the order of EVIDENCE_USES. */
  counts: 19,
  /** Until the first settle after a restart, in the place of two counts: the newest evidence of the journalled settle. */
  throughSegment: 19,
  throughOffset: 20,
} as const;
const TRACE_WORDS = 23;

const PIECE = { spanHigh: 0, spanLow: 1, parentHigh: 2, parentLow: 3, frame: 4, item: 5, next: 6 } as const;
const PIECE_WORDS = 7;
/** The offset of an item takes 29 bits (512 MiB, above every request cap); the other three bits are flags. */
const ITEM_MASK = 0x1fff_ffff;
const IS_LOG = 0x2000_0000;
const IS_PENDING = 0x4000_0000;
const IS_TAKEN = 0x8000_0000;

const FRAME = { segment: 0, offset: 1, receivedMs: 2, pieces: 3, pending: 4, previous: 5, next: 6 } as const;
const FRAME_WORDS = 7;

const HASH_SLOTS_FIRST = 1024;
/** Slots fill up to four fifths: at two words a slot that is 10 to 20 bytes a trace. */
const HASH_LOAD_MAX = 0.8;

/** Where a piece of evidence lies and what it is, without its content. */
export interface Piece {
  readonly isLog: boolean;
  /** Not settled and stored before. */
  readonly isNew: boolean;
  readonly spanHigh: number;
  readonly spanLow: number;
  readonly segment: number;
  readonly offset: number;
  readonly itemStart: number;
}

/** How many pieces of one segment are in the index, and how many of them are not settled and stored yet. */
export interface SegmentCount {
  pending: number;
  held: number;
}

/** What a piece's ids are; 0, 0 is no id. */
export interface PieceIds {
  spanHigh: number;
  spanLow: number;
  parentHigh: number;
  parentLow: number;
}

/** Milliseconds from one 32-bit time to another; right while they are less than 24 days apart. */
export function since(laterMs: number, earlierMs: number): number {
  return (laterMs - earlierMs) | 0;
}

/** Mixes a trace id (four words) and its namespace number into 32 bits. */
export function hashTrace(id: Uint32Array, namespace: number): number {
  let hash = namespace;
  for (let index = 0; index < 4; index++) {
    hash = Math.imul(hash ^ (id[index] as number), 0x9e37_79b1);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, 0x85eb_ca6b) >>> 0;
}

export class TraceTable {
  readonly traces = new WordPool(TRACE_WORDS);
  readonly #pieces = new WordPool(PIECE_WORDS);
  readonly #frames = new WordPool(FRAME_WORDS);
  #slots = new Uint32Array(HASH_SLOTS_FIRST * 2);
  readonly #segments = new Map<number, SegmentCount>();
  #pendingPieces = 0;
  /** Frames with pending evidence, in order of arrival. */
  #oldestFrame = NONE;
  #newestFrame = NONE;

  get pieceCount(): number {
    return this.#pieces.live;
  }

  get pendingPieces(): number {
    return this.#pendingPieces;
  }

  /** Bytes in use: what the limit is held against. */
  get usedBytes(): number {
    const { traces } = this;
    const frameBytes = this.#frames.live * this.#frames.itemBytes;
    return (
      traces.live * traces.itemBytes + this.#pieces.live * this.#pieces.itemBytes + frameBytes + this.#slots.byteLength
    );
  }

  get allocatedBytes(): number {
    const pools = this.traces.allocatedBytes + this.#pieces.allocatedBytes + this.#frames.allocatedBytes;
    return pools + this.#slots.byteLength;
  }

  /** Bytes that would be free without this trace (its frames and hash slots left out). */
  traceBytes(trace: number): number {
    return this.traces.itemBytes + this.traces.get(trace, TRACE.pieces) * this.#pieces.itemBytes;
  }

  get pieceBytes(): number {
    return this.#pieces.itemBytes;
  }

  /** By segment number; a segment without pieces in the index is not there. */
  get segments(): ReadonlyMap<number, Readonly<SegmentCount>> {
    return this.#segments;
  }

  /** Low 32 bits of the receive time of the oldest evidence not stored yet. */
  oldestPendingMs(): number | undefined {
    return this.#oldestFrame === NONE ? undefined : this.#frames.get(this.#oldestFrame, FRAME.receivedMs);
  }

  find(id: Uint32Array, namespace: number): number {
    const slot = this.#slotOf(hashTrace(id, namespace), id, namespace);
    return this.#slots[slot * 2 + 1] as number;
  }

  add(id: Uint32Array, namespace: number): number {
    if (this.traces.live + 1 > (this.#slots.length / 2) * HASH_LOAD_MAX) this.#growSlots();
    const hash = hashTrace(id, namespace);
    const slot = this.#slotOf(hash, id, namespace);
    assert(this.#slots[slot * 2 + 1] === NONE, 'a trace is added once');
    const trace = this.traces.allocate();
    for (let index = 0; index < 4; index++) this.traces.set(trace, TRACE.id + index, id[index] as number);
    this.traces.set(trace, TRACE.namespace, namespace);
    this.#slots[slot * 2] = hash;
    this.#slots[slot * 2 + 1] = trace;
    return trace;
  }

  /** Forgets a trace and its evidence. */
  remove(trace: number): void {
    let piece = this.traces.get(trace, TRACE.head);
    while (piece !== NONE) {
      const next = this.#pieces.get(piece, PIECE.next);
      this.#setStored(trace, piece);
      const frame = this.#pieces.get(piece, PIECE.frame);
      const segment = this.#frames.get(frame, FRAME.segment);
      const count = this.#segment(segment);
      count.held--;
      if (count.held === 0) this.#segments.delete(segment);
      if (this.#frames.add(frame, FRAME.pieces, -1) === 0) this.#frames.release(frame);
      this.#pieces.release(piece);
      piece = next;
    }
    this.#removeSlot(trace);
    this.traces.release(trace);
  }

  addFrame(segment: number, offset: number, receivedMs: number): number {
    const frame = this.#frames.allocate();
    this.#frames.set(frame, FRAME.segment, segment);
    this.#frames.set(frame, FRAME.offset, offset);
    this.#frames.set(frame, FRAME.receivedMs, receivedMs);
    return frame;
  }

  addPiece(trace: number, frame: number, itemStart: number, isLog: boolean, ids: PieceIds, pending: boolean): void {
    assert(itemStart <= ITEM_MASK, 'an item lies within the first 512 MiB of its payload');
    const { traces } = this;
    const piece = this.#pieces.allocate();
    this.#pieces.set(piece, PIECE.spanHigh, ids.spanHigh);
    this.#pieces.set(piece, PIECE.spanLow, ids.spanLow);
    this.#pieces.set(piece, PIECE.parentHigh, ids.parentHigh);
    this.#pieces.set(piece, PIECE.parentLow, ids.parentLow);
    this.#pieces.set(piece, PIECE.frame, frame);
    this.#pieces.set(piece, PIECE.item, itemStart | (isLog ? IS_LOG : 0) | (pending ? IS_PENDING : 0));
    this.#pieces.set(piece, PIECE.next, traces.get(trace, TRACE.head));
    traces.set(trace, TRACE.head, piece);
    traces.add(trace, TRACE.pieces, 1);
    this.#frames.add(frame, FRAME.pieces, 1);
    const count = this.#segment(this.#frames.get(frame, FRAME.segment));
    count.held++;
    if (!pending) return;
    traces.add(trace, TRACE.pending, 1);
    this.#pendingPieces++;
    count.pending++;
    if (this.#frames.add(frame, FRAME.pending, 1) === 1) this.#appendFrame(frame);
  }

  /** The pieces of a trace, newest first, without stored ones in segments before `firstSegment`. */
  pieces(trace: number, firstSegment: number): Piece[] {
    return this.#walk(trace, firstSegment, false, Number.POSITIVE_INFINITY);
  }

  /**
   * As `pieces`, and marks the new ones as on their way to the store. With a limit, at most that many new ones and no
   * other.
   */
  takePieces(trace: number, firstSegment: number, newMax = Number.POSITIVE_INFINITY): Piece[] {
    return this.#walk(trace, firstSegment, true, newMax);
  }

  /** What was taken is stored now. Returns how many pieces that were. */
  storeTaken(trace: number): number {
    let stored = 0;
    for (let piece = this.traces.get(trace, TRACE.head); piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      if ((this.#pieces.get(piece, PIECE.item) & IS_TAKEN) === 0) continue;
      this.#setStored(trace, piece);
      stored++;
    }
    return stored;
  }

  /** Is the newest evidence of the trace in a segment before this one? Then none of it can be read any more. */
  isBefore(trace: number, segment: number): boolean {
    const head = this.traces.get(trace, TRACE.head);
    return head !== NONE && this.#frames.get(this.#pieces.get(head, PIECE.frame), FRAME.segment) < segment;
  }

  /** Is every span's parent among the spans of the trace? Takes time in proportion to the trace. */
  parentsResolved(trace: number): boolean {
    let size = 16;
    while (size < this.traces.get(trace, TRACE.pieces) * 2) size *= 2;
    const seen = new Uint32Array(size * 2);
    const head = this.traces.get(trace, TRACE.head);
    for (let piece = head; piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      if ((this.#pieces.get(piece, PIECE.item) & IS_LOG) !== 0) continue;
      const high = this.#pieces.get(piece, PIECE.spanHigh);
      const low = this.#pieces.get(piece, PIECE.spanLow);
      const slot = idSlot(seen, high, low);
      seen[slot] = high;
      seen[slot + 1] = low;
    }
    for (let piece = head; piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      const high = this.#pieces.get(piece, PIECE.parentHigh);
      const low = this.#pieces.get(piece, PIECE.parentLow);
      if ((high !== 0 || low !== 0) && seen[idSlot(seen, high, low)] !== high) return false;
      if ((high !== 0 || low !== 0) && seen[idSlot(seen, high, low) + 1] !== low) return false;
    }
    return true;
  }

  #walk(trace: number, firstSegment: number, isTaken: boolean, newMax: number): Piece[] {
    const found: Piece[] = [];
    let piece = this.traces.get(trace, TRACE.head);
    for (; piece !== NONE && found.length < newMax; piece = this.#pieces.get(piece, PIECE.next)) {
      const item = this.#pieces.get(piece, PIECE.item);
      const isNew = (item & IS_PENDING) !== 0;
      const frame = this.#pieces.get(piece, PIECE.frame);
      const segment = this.#frames.get(frame, FRAME.segment);
      if (!isNew && (segment < firstSegment || newMax !== Number.POSITIVE_INFINITY)) continue;
      if (isNew && isTaken) this.#pieces.set(piece, PIECE.item, item | IS_TAKEN);
      found.push({
        isLog: (item & IS_LOG) !== 0,
        isNew,
        spanHigh: this.#pieces.get(piece, PIECE.spanHigh),
        spanLow: this.#pieces.get(piece, PIECE.spanLow),
        segment,
        offset: this.#frames.get(frame, FRAME.offset),
        itemStart: item & ITEM_MASK,
      });
    }
    return found;
  }

  #segment(segment: number): SegmentCount {
    let count = this.#segments.get(segment);
    if (count === undefined) {
      count = { pending: 0, held: 0 };
      this.#segments.set(segment, count);
    }
    return count;
  }

  #setStored(trace: number, piece: number): void {
    const item = this.#pieces.get(piece, PIECE.item);
    if ((item & IS_PENDING) === 0) return;
    this.#pieces.set(piece, PIECE.item, item & ~(IS_PENDING | IS_TAKEN));
    this.traces.add(trace, TRACE.pending, -1);
    this.#pendingPieces--;
    const frame = this.#pieces.get(piece, PIECE.frame);
    this.#segment(this.#frames.get(frame, FRAME.segment)).pending--;
    if (this.#frames.add(frame, FRAME.pending, -1) === 0) this.#unlinkFrame(frame);
  }

  #appendFrame(frame: number): void {
    this.#frames.set(frame, FRAME.previous, this.#newestFrame);
    this.#frames.set(frame, FRAME.next, NONE);
    if (this.#newestFrame === NONE) this.#oldestFrame = frame;
    else this.#frames.set(this.#newestFrame, FRAME.next, frame);
    this.#newestFrame = frame;
  }

  #unlinkFrame(frame: number): void {
    const previous = this.#frames.get(frame, FRAME.previous);
    const next = this.#frames.get(frame, FRAME.next);
    if (previous === NONE) this.#oldestFrame = next;
    else this.#frames.set(previous, FRAME.next, next);
    if (next === NONE) this.#newestFrame = previous;
    else this.#frames.set(next, FRAME.previous, previous);
  }

  /** The slot that holds this trace, or the empty slot where it belongs. */
  #slotOf(hash: number, id: Uint32Array, namespace: number): number {
    const mask = this.#slots.length / 2 - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const trace = this.#slots[slot * 2 + 1] as number;
      if (trace === NONE) return slot;
      if (this.#slots[slot * 2] === hash && this.#isTrace(trace, id, namespace)) return slot;
    }
  }

  #isTrace(trace: number, id: Uint32Array, namespace: number): boolean {
    for (let index = 0; index < 4; index++) if (this.traces.get(trace, TRACE.id + index) !== id[index]) return false;
    return this.traces.get(trace, TRACE.namespace) === namespace;
  }

  #growSlots(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    const mask = this.#slots.length / 2 - 1;
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] === NONE) continue;
      let slot = (old[at] as number) & mask;
      while (this.#slots[slot * 2 + 1] !== NONE) slot = (slot + 1) & mask;
      this.#slots[slot * 2] = old[at] as number;
      this.#slots[slot * 2 + 1] = old[at + 1] as number;
    }
  }

  /** Empties a trace's slot and moves back what had to step aside for it, so that no search ends early. */
  #removeSlot(trace: number): void {
    const slots = this.#slots;
    const mask = slots.length / 2 - 1;
    const id = Uint32Array.from({ length: 4 }, (_, index) => this.traces.get(trace, TRACE.id + index));
    const namespace = this.traces.get(trace, TRACE.namespace);
    let hole = this.#slotOf(hashTrace(id, namespace), id, namespace);
    for (let slot = (hole + 1) & mask; slots[slot * 2 + 1] !== NONE; slot = (slot + 1) & mask) {
      const home = (slots[slot * 2] as number) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole * 2] = slots[slot * 2] as number;
      slots[hole * 2 + 1] = slots[slot * 2 + 1] as number;
      hole = slot;
    }
    slots[hole * 2] = 0;
    slots[hole * 2 + 1] = NONE;
  }
}

/** Where an id is, or would be, in a set of ids kept as pairs of words. */
function idSlot(seen: Uint32Array, high: number, low: number): number {
  const mask = seen.length / 2 - 1;
  let slot = (Math.imul(high ^ low, 0x9e37_79b1) >>> 7) & mask;
  while (
    (seen[slot * 2] !== 0 || seen[slot * 2 + 1] !== 0) &&
    (seen[slot * 2] !== high || seen[slot * 2 + 1] !== low)
  ) {
    slot = (slot + 1) & mask;
  }
  return slot * 2;
}
