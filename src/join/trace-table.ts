import { randomInt } from 'node:crypto';
import { assert } from '../core/assert.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import { dropNeverChosen, listedMax } from './choose-pieces.ts';
import { TraceSlots } from './trace-slots.ts';
import { TRACE, TRACE_WORDS } from './trace-words.ts';
import { NONE, WordPool } from './word-pool.ts';

/**
 * The index from trace id to evidence: three pools of fixed-size items (traces, pieces of evidence, frames of the
 * write-ahead log) and an open-addressing hash over the traces. 92 bytes and a hash slot a trace, 28 a piece, 32 a frame.
 */

const PIECE = { spanHigh: 0, spanLow: 1, parentHigh: 2, parentLow: 3, frame: 4, item: 5, next: 6 } as const;
const PIECE_WORDS = 7;
/** The offset of an item takes 29 bits (512 MiB, above every request cap); the other three bits are flags. */
const ITEM_MASK = 0x1fff_ffff;
const IS_LOG = 0x2000_0000;
const IS_PENDING = 0x4000_0000;
const IS_TAKEN = 0x8000_0000;

const FRAME = { segment: 0, offset: 1, receivedMs: 2, pieces: 3, pending: 4, previous: 5, next: 6 } as const;
const FRAME_WORDS = 7;

const SCRATCH_WORDS = 4096;

/** The sort key of evidence without a span. */
const NO_SPAN = Number.POSITIVE_INFINITY;

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

/** What one look at a trace found. */
export interface TraceLook {
  /** Newest first, unless there are more than a settle looks at. */
  readonly pieces: Piece[];
  /** Pieces not settled and stored before, listed or not. */
  readonly fresh: number;
  /** Pieces that are not gone, listed or not. */
  readonly readable: number;
  /** Where the newest of them lies. */
  readonly newest: FramePosition;
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

export class TraceTable {
  readonly traces = new WordPool(TRACE_WORDS);
  readonly #pieces = new WordPool(PIECE_WORDS);
  readonly #frames = new WordPool(FRAME_WORDS);
  readonly #slots = new TraceSlots(this.traces);
  /** Room for the span ids of one trace, as long as it is not huge. */
  readonly #scratch = new Uint32Array(SCRATCH_WORDS);
  /** Senders choose span ids, but not which of them meet in a set. */
  readonly #seed = randomInt(2 ** 32);
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
    return traces.live * traces.itemBytes + this.#pieces.live * this.#pieces.itemBytes + frameBytes + this.#slots.bytes;
  }

  get allocatedBytes(): number {
    const pools = this.traces.allocatedBytes + this.#pieces.allocatedBytes + this.#frames.allocatedBytes;
    return pools + this.#slots.bytes;
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
    return this.#slots.find(id, namespace);
  }

  add(id: Uint32Array, namespace: number): number {
    const trace = this.traces.allocate();
    for (let index = 0; index < 4; index++) this.traces.set(trace, TRACE.id + index, id[index] as number);
    this.traces.set(trace, TRACE.namespace, namespace);
    this.#slots.insert(trace, id, namespace);
    return trace;
  }

  /** Forgets a trace and its evidence. */
  remove(trace: number): void {
    let piece = this.traces.get(trace, TRACE.head);
    while (piece !== NONE) {
      const next = this.#pieces.get(piece, PIECE.next);
      this.#setStored(trace, piece);
      this.#releasePiece(piece);
      piece = next;
    }
    this.#slots.remove(trace);
    this.traces.release(trace);
  }

  /** Forgets the stored evidence of a trace in segments before this one. Returns how many pieces that were. */
  prune(trace: number, firstSegment: number): number {
    let pruned = 0;
    let before = NONE;
    for (let piece = this.traces.get(trace, TRACE.head), next = NONE; piece !== NONE; piece = next) {
      next = this.#pieces.get(piece, PIECE.next);
      const isStored = (this.#pieces.get(piece, PIECE.item) & IS_PENDING) === 0;
      if (!isStored || this.#frames.get(this.#pieces.get(piece, PIECE.frame), FRAME.segment) >= firstSegment) {
        before = piece;
        continue;
      }
      if (before === NONE) this.traces.set(trace, TRACE.head, next);
      else this.#pieces.set(before, PIECE.next, next);
      this.#releasePiece(piece);
      pruned++;
    }
    this.traces.add(trace, TRACE.pieces, -pruned);
    return pruned;
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

  /**
   * Looks at the pieces of a trace. With `take`, all new ones are marked as on their way to the store; with `newMax`, at most
   * that many new ones are looked at, and no other. Stored ones in segments before `firstSegment` are gone. Of a trace of
   * more than `idsMax` pieces only those of about as many smallest span ids are listed, so that a huge one is no burden.
   */
  look(trace: number, options: { firstSegment: number; idsMax: number; take: boolean; newMax?: number }): TraceLook {
    const { firstSegment, idsMax, newMax } = options;
    const keyMax = this.traces.get(trace, TRACE.pieces) > idsMax ? this.#keyOfRank(trace, idsMax) : NO_SPAN;
    const pieces: Piece[] = [];
    const listMax = listedMax(idsMax);
    let [fresh, readable, newestSegment, newestOffset] = [0, 0, 0, 0];
    let piece = this.traces.get(trace, TRACE.head);
    for (; piece !== NONE && (newMax === undefined || fresh < newMax); piece = this.#pieces.get(piece, PIECE.next)) {
      const item = this.#pieces.get(piece, PIECE.item);
      const isNew = (item & IS_PENDING) !== 0;
      const frame = this.#pieces.get(piece, PIECE.frame);
      const segment = this.#frames.get(frame, FRAME.segment);
      if (!isNew && (segment < firstSegment || newMax !== undefined)) continue;
      if (isNew) fresh++;
      if (isNew && options.take) this.#pieces.set(piece, PIECE.item, item | IS_TAKEN);
      readable++;
      const offset = this.#frames.get(frame, FRAME.offset);
      if (segment > newestSegment || (segment === newestSegment && offset > newestOffset)) {
        newestSegment = segment;
        newestOffset = offset;
      }
      if (this.#key(piece) <= keyMax) pieces.push(this.#piece(piece, item, segment, offset));
      // Many pieces of one span id, or of none.
      if (pieces.length >= listMax) dropNeverChosen(pieces, idsMax);
    }
    return { pieces, fresh, readable, newest: { segment: newestSegment, offset: newestOffset } };
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
    const isSmall = size * 2 <= this.#scratch.length;
    const seen = isSmall ? this.#scratch.fill(0, 0, size * 2) : new Uint32Array(size * 2);
    const head = this.traces.get(trace, TRACE.head);
    for (let piece = head; piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      if ((this.#pieces.get(piece, PIECE.item) & IS_LOG) !== 0) continue;
      const high = this.#pieces.get(piece, PIECE.spanHigh);
      const low = this.#pieces.get(piece, PIECE.spanLow);
      const slot = this.#idSlot(seen, size - 1, high, low);
      seen[slot] = high;
      seen[slot + 1] = low;
    }
    for (let piece = head; piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      const high = this.#pieces.get(piece, PIECE.parentHigh);
      const low = this.#pieces.get(piece, PIECE.parentLow);
      if ((high !== 0 || low !== 0) && seen[this.#idSlot(seen, size - 1, high, low)] !== high) return false;
      if ((high !== 0 || low !== 0) && seen[this.#idSlot(seen, size - 1, high, low) + 1] !== low) return false;
    }
    return true;
  }

  #piece(piece: number, item: number, segment: number, offset: number): Piece {
    return {
      isLog: (item & IS_LOG) !== 0,
      isNew: (item & IS_PENDING) !== 0,
      spanHigh: this.#pieces.get(piece, PIECE.spanHigh),
      spanLow: this.#pieces.get(piece, PIECE.spanLow),
      segment,
      offset,
      itemStart: item & ITEM_MASK,
    };
  }

  /** In the order of span ids, though a few neighbouring ids may share a key; those without a span come last. */
  #key(piece: number): number {
    const key = this.#pieces.get(piece, PIECE.spanHigh) * 2 ** 32 + this.#pieces.get(piece, PIECE.spanLow);
    return key === 0 ? NO_SPAN : key;
  }

  /** The key of which the trace has `rank` distinct ones up to it. */
  #keyOfRank(trace: number, rank: number): number {
    const keys = new Float64Array(this.traces.get(trace, TRACE.pieces));
    let piece = this.traces.get(trace, TRACE.head);
    for (let index = 0; piece !== NONE; index++, piece = this.#pieces.get(piece, PIECE.next))
      keys[index] = this.#key(piece);
    keys.sort();
    let distinct = 0;
    for (let index = 0; index < keys.length; index++) {
      if (index > 0 && keys[index] === keys[index - 1]) continue;
      if (++distinct === rank) return keys[index] ?? NO_SPAN;
    }
    return NO_SPAN;
  }

  #segment(segment: number): SegmentCount {
    let count = this.#segments.get(segment);
    if (count === undefined) {
      count = { pending: 0, held: 0 };
      this.#segments.set(segment, count);
    }
    return count;
  }

  #releasePiece(piece: number): void {
    const frame = this.#pieces.get(piece, PIECE.frame);
    const segment = this.#frames.get(frame, FRAME.segment);
    const count = this.#segment(segment);
    count.held--;
    if (count.held === 0) this.#segments.delete(segment);
    if (this.#frames.add(frame, FRAME.pieces, -1) === 0) this.#frames.release(frame);
    this.#pieces.release(piece);
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

  /** Where an id is, or would be, in a set of ids kept as pairs of words. */
  #idSlot(seen: Uint32Array, mask: number, high: number, low: number): number {
    const mixed = Math.imul(high ^ this.#seed, 0x9e37_79b1);
    let slot = (Math.imul(mixed ^ (mixed >>> 15) ^ low, 0x85eb_ca6b) >>> 7) & mask;
    while (
      (seen[slot * 2] !== 0 || seen[slot * 2 + 1] !== 0) &&
      (seen[slot * 2] !== high || seen[slot * 2 + 1] !== low)
    ) {
      slot = (slot + 1) & mask;
    }
    return slot * 2;
  }
}
