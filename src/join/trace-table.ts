import { randomInt } from 'node:crypto';
import { assert } from '../core/assert.ts';
import type { BySignal } from '../core/settlement.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { EvidencePlace } from '../wal/settle-journal.ts';
import { PieceList } from './huge-pieces.ts';
import { TraceSlots } from './trace-slots.ts';
import { TRACE, TRACE_WORDS } from './trace-words.ts';
import { NONE, WordPool } from './word-pool.ts';

/**
 * The index from trace id to evidence that is not stored yet: three pools of fixed-size items (traces, pieces of evidence,
 * frames of the write-ahead log) and an open-addressing hash over the traces. 76 bytes and a hash slot a trace, 28 a piece,
 * 28 a frame.
 */

const PIECE = { spanHigh: 0, spanLow: 1, parentHigh: 2, parentLow: 3, frame: 4, item: 5, next: 6 } as const;
const PIECE_WORDS = 7;
/** The offset of an item takes 29 bits (512 MiB, above every request cap); two of the other bits are flags. */
const ITEM_MASK = 0x1fff_ffff;
const IS_LOG = 0x2000_0000;
const IS_TAKEN = 0x4000_0000;

const FRAME = { segment: 0, offset: 1, receivedMs: 2, pieces: 3, previous: 4, next: 5 } as const;
const FRAME_WORDS = 6;

const SCRATCH_WORDS = 4096;

/** As many as traces that are settled by their form have at most. */
const TOLD_MAX = 64;

/** Where a piece of evidence lies and what it is, without its content. */
export interface Piece extends EvidencePlace {
  /** Not settled and stored before. */
  readonly isNew: boolean;
}

/** What one look at a trace found. */
export interface TraceLook {
  /** In the order of the log, unless a clock or a replay brought them otherwise. */
  readonly pieces: Piece[];
  /** Where the newest of them lies. */
  readonly newest: FramePosition;
}

/** How many pieces of one segment are in the index: not settled and stored yet. */
export interface SegmentCount {
  pending: number;
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
  /** What the last take told of the first pieces: the next one writes over them. */
  readonly #told: { -readonly [Key in keyof Piece]: Piece[Key] }[] = [];
  /** Senders choose span ids, but not which of them meet in a set. */
  readonly #seed = randomInt(2 ** 32);
  readonly #segments = new Map<number, SegmentCount>();
  /** The segment that was counted last, as the next one nearly always is. */
  #counted: { readonly segment: number; readonly count: SegmentCount } | undefined;
  #logs = 0;
  /** In order of arrival. */
  #oldestFrame = NONE;
  #newestFrame = NONE;

  get pieceCount(): number {
    return this.#pieces.live;
  }

  /** How many of the pieces are log records. */
  get logCount(): number {
    return this.#logs;
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

  /** Low 32 bits of the receive time of the oldest evidence. */
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
    this.#releasePieces(this.traces.get(trace, TRACE.head));
    this.#slots.remove(trace);
    this.traces.release(trace);
  }

  addFrame(segment: number, offset: number, receivedMs: number): number {
    const frame = this.#frames.allocate();
    this.#frames.set(frame, FRAME.segment, segment);
    this.#frames.set(frame, FRAME.offset, offset);
    this.#frames.set(frame, FRAME.receivedMs, receivedMs);
    this.#frames.set(frame, FRAME.previous, this.#newestFrame);
    if (this.#newestFrame === NONE) this.#oldestFrame = frame;
    else this.#frames.set(this.#newestFrame, FRAME.next, frame);
    this.#newestFrame = frame;
    return frame;
  }

  addPiece(trace: number, frame: number, itemStart: number, isLog: boolean, ids: PieceIds): void {
    assert(itemStart <= ITEM_MASK, 'an item lies within the first 512 MiB of its payload');
    const { traces } = this;
    const piece = this.#pieces.allocate();
    const words = this.#pieces.wordsOf(piece);
    const start = this.#pieces.startOf(piece);
    const traceWords = traces.wordsOf(trace);
    const traceStart = traces.startOf(trace);
    words[start + PIECE.spanHigh] = ids.spanHigh;
    words[start + PIECE.spanLow] = ids.spanLow;
    words[start + PIECE.parentHigh] = ids.parentHigh;
    words[start + PIECE.parentLow] = ids.parentLow;
    words[start + PIECE.frame] = frame;
    words[start + PIECE.item] = itemStart | (isLog ? IS_LOG : 0);
    words[start + PIECE.next] = traceWords[traceStart + TRACE.head] as number;
    traceWords[traceStart + TRACE.head] = piece;
    traceWords[traceStart + TRACE.pieces] = (traceWords[traceStart + TRACE.pieces] as number) + 1;
    this.#frames.add(frame, FRAME.pieces, 1);
    if (isLog) this.#logs++;
    this.#countOf(this.#frames.get(frame, FRAME.segment)).pending++;
  }

  /** How many pieces of a segment are there, to be changed. */
  #countOf(segment: number): SegmentCount {
    if (this.#counted?.segment === segment) return this.#counted.count;
    let count = this.#segments.get(segment);
    if (count === undefined) {
      count = { pending: 0 };
      this.#segments.set(segment, count);
    }
    this.#counted = { segment, count };
    return count;
  }

  /**
   * Takes the pieces that are not taken yet, at most so many: they are on their way to the store until `removeTaken`. What is told of
   * them holds until the next take.
   */
  take(trace: number, piecesMax = Number.POSITIVE_INFINITY): TraceLook {
    const pieces: Piece[] = [];
    let newest = { segment: 0, offset: 0 };
    for (
      let piece = this.traces.get(trace, TRACE.head);
      piece !== NONE && pieces.length < piecesMax;
      piece = this.#pieces.get(piece, PIECE.next)
    ) {
      const item = this.#pieces.get(piece, PIECE.item);
      if ((item & IS_TAKEN) !== 0) continue;
      this.#pieces.set(piece, PIECE.item, item | IS_TAKEN);
      const found = this.#tell(piece, pieces.length);
      if (comparePositions(found, newest) > 0) newest = found;
      pieces.push(found);
    }
    // In the order of the log, as they are read and remembered.
    pieces.reverse();
    return { pieces, newest: { segment: newest.segment, offset: newest.offset } };
  }

  /**
   * Takes all pieces that are not taken yet, as `take`, in a few bytes each: the oldest `piecesMax`; those that came after are
   * only counted.
   */
  takeList(trace: number, piecesMax: number): { list: PieceList; unseen: BySignal<number>; newest: FramePosition } {
    const list = new PieceList();
    const unseen = { traces: 0, logs: 0 };
    let unseenLeft = this.traces.get(trace, TRACE.pieces) - piecesMax;
    let newest = { segment: 0, offset: 0 };
    for (let piece = this.traces.get(trace, TRACE.head); piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      const item = this.#pieces.get(piece, PIECE.item);
      if ((item & IS_TAKEN) !== 0) continue;
      this.#pieces.set(piece, PIECE.item, item | IS_TAKEN);
      const found = this.#piece(piece);
      if (comparePositions(found, newest) > 0) newest = found;
      if (unseenLeft-- > 0) unseen[found.isLog ? 'logs' : 'traces']++;
      else list.add(found);
    }
    return { list, unseen, newest: { segment: newest.segment, offset: newest.offset } };
  }

  /** At most so many spans, newest first, taken or not; changes nothing. */
  spansOf(trace: number, spansMax: number): Piece[] {
    const pieces: Piece[] = [];
    for (
      let piece = this.traces.get(trace, TRACE.head);
      piece !== NONE && pieces.length < spansMax;
      piece = this.#pieces.get(piece, PIECE.next)
    ) {
      if ((this.#pieces.get(piece, PIECE.item) & IS_LOG) === 0) pieces.push(this.#piece(piece));
    }
    return pieces;
  }

  /** Forgets the pieces that were taken: all but the newest. Returns how many are left. */
  removeTaken(trace: number): number {
    let before = NONE;
    let left = 0;
    let piece = this.traces.get(trace, TRACE.head);
    for (; piece !== NONE; piece = this.#pieces.get(piece, PIECE.next)) {
      if ((this.#pieces.get(piece, PIECE.item) & IS_TAKEN) !== 0) break;
      before = piece;
      left++;
    }
    if (before === NONE) this.traces.set(trace, TRACE.head, NONE);
    else this.#pieces.set(before, PIECE.next, NONE);
    this.#releasePieces(piece);
    this.traces.set(trace, TRACE.pieces, left);
    return left;
  }

  /** Is every span's parent among the spans of the trace? Takes time in proportion to the trace. */
  parentsResolved(trace: number): boolean {
    let size = 16;
    while (size < this.traces.get(trace, TRACE.pieces) * 2) size *= 2;
    const isSmall = size * 2 <= this.#scratch.length;
    const seen = isSmall ? this.#scratch.fill(0, 0, size * 2) : new Uint32Array(size * 2);
    const head = this.traces.get(trace, TRACE.head);
    for (let piece = head, start = 0; piece !== NONE; ) {
      const words = this.#pieces.wordsOf(piece);
      start = this.#pieces.startOf(piece);
      piece = words[start + PIECE.next] as number;
      if (((words[start + PIECE.item] as number) & IS_LOG) !== 0) continue;
      const high = words[start + PIECE.spanHigh] as number;
      const low = words[start + PIECE.spanLow] as number;
      const slot = this.#idSlot(seen, size - 1, high, low);
      seen[slot] = high;
      seen[slot + 1] = low;
    }
    for (let piece = head, start = 0; piece !== NONE; ) {
      const words = this.#pieces.wordsOf(piece);
      start = this.#pieces.startOf(piece);
      piece = words[start + PIECE.next] as number;
      const high = words[start + PIECE.parentHigh] as number;
      const low = words[start + PIECE.parentLow] as number;
      if (high === 0 && low === 0) continue;
      const slot = this.#idSlot(seen, size - 1, high, low);
      if (seen[slot] !== high || seen[slot + 1] !== low) return false;
    }
    return true;
  }

  #piece(piece: number): Piece {
    const item = this.#pieces.get(piece, PIECE.item);
    const frame = this.#pieces.get(piece, PIECE.frame);
    const words = this.#frames.wordsOf(frame);
    const start = this.#frames.startOf(frame);
    return {
      segment: words[start + FRAME.segment] as number,
      offset: words[start + FRAME.offset] as number,
      itemStart: item & ITEM_MASK,
      isLog: (item & IS_LOG) !== 0,
      isNew: true,
    };
  }

  /** The same in an object of the last take where there is one. */
  #tell(piece: number, at: number): Piece {
    const told = this.#told[at];
    if (told === undefined) {
      const found = this.#piece(piece);
      if (at < TOLD_MAX) this.#told.push(found);
      return found;
    }
    const item = this.#pieces.get(piece, PIECE.item);
    const frame = this.#pieces.get(piece, PIECE.frame);
    const words = this.#frames.wordsOf(frame);
    const start = this.#frames.startOf(frame);
    told.segment = words[start + FRAME.segment] as number;
    told.offset = words[start + FRAME.offset] as number;
    told.itemStart = item & ITEM_MASK;
    told.isLog = (item & IS_LOG) !== 0;
    return told;
  }

  /** Lets go of this piece and those after it. */
  #releasePieces(first: number): void {
    for (let piece = first, next = NONE; piece !== NONE; piece = next) {
      const words = this.#pieces.wordsOf(piece);
      const start = this.#pieces.startOf(piece);
      next = words[start + PIECE.next] as number;
      const frame = words[start + PIECE.frame] as number;
      const segment = this.#frames.get(frame, FRAME.segment);
      const count = this.#countOf(segment);
      count.pending--;
      if (count.pending === 0) {
        this.#segments.delete(segment);
        this.#counted = undefined;
      }
      if (((words[start + PIECE.item] as number) & IS_LOG) !== 0) this.#logs--;
      if (this.#frames.add(frame, FRAME.pieces, -1) === 0) this.#releaseFrame(frame);
      this.#pieces.release(piece);
    }
  }

  #releaseFrame(frame: number): void {
    const previous = this.#frames.get(frame, FRAME.previous);
    const next = this.#frames.get(frame, FRAME.next);
    if (previous === NONE) this.#oldestFrame = next;
    else this.#frames.set(previous, FRAME.next, next);
    if (next === NONE) this.#newestFrame = previous;
    else this.#frames.set(next, FRAME.previous, previous);
    this.#frames.release(frame);
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
