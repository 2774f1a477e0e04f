import { assert } from '../core/assert.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';

/** Four words a slot: the hash, low and high, and a position; an offset of zero is an empty slot. */
const SLOT_WORDS = 4;
const SLOT_BYTES = SLOT_WORDS * 4;

/** A part is filled up to LOAD_MAX and then made as large as LOAD_NEW says: 19 to 24 bytes a position. */
const LOAD_MAX = 0.85;
const LOAD_NEW = 0.68;
const SLOTS_MIN = 4;

/** Parts have at most about this many bytes, so that making one anew is over in some tens of microseconds. */
const PART_BYTES = 32 * 1024;
const PARTS_MAX = 4096;

/** When a part is full at its largest, this share of what it holds is forgotten, in all parts. */
const FORGOTTEN_SHARE = 1 / 8;

const NO_SLOTS = new Uint32Array(0);

/**
 * Positions in a log by 64-bit hash, in a given number of bytes: where the newest entry of each is. Nothing is removed singly:
 * there is a floor, a position before which everything is forgotten. It rises when somebody says so and, so that the table stays
 * within its bytes, by itself. What is below the floor is swept out part by part.
 */
export class PositionTable {
  readonly #parts: Uint32Array[];
  readonly #used: Uint32Array;
  readonly #slotsMax: number;
  readonly #partShift: number;
  #floor: FramePosition = { segment: 0, offset: 0 };
  #bytes = 0;
  #count = 0;
  /** Parts that may hold what is below the floor. */
  #unswept = 0;

  constructor(bytesMax: number) {
    let parts = 1;
    while (parts < PARTS_MAX && parts * 2 * PART_BYTES <= bytesMax) parts *= 2;
    this.#parts = new Array<Uint32Array>(parts).fill(NO_SLOTS);
    this.#used = new Uint32Array(parts);
    this.#slotsMax = Math.max(Math.floor(bytesMax / parts / SLOT_BYTES), SLOTS_MIN);
    this.#partShift = 32 - Math.log2(parts);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Positions held, those not swept yet included. */
  get count(): number {
    return this.#count;
  }

  /** What is before this position is forgotten. */
  get floor(): FramePosition {
    return this.#floor;
  }

  get(high: number, low: number): FramePosition | undefined {
    const part = this.#parts[this.#partOf(high)] as Uint32Array;
    if (part.length === 0) return undefined;
    const at = slotOf(part, high, low);
    const position = { segment: part[at + 2] as number, offset: part[at + 3] as number };
    return position.offset === 0 || comparePositions(position, this.#floor) < 0 ? undefined : position;
  }

  /** Takes the place of what was there for this hash. */
  put(high: number, low: number, position: FramePosition): void {
    assert(position.offset !== 0, 'no entry lies at the start of a file');
    const number = this.#partOf(high);
    if (this.#unswept > 0) this.#sweepNext();
    let part = this.#parts[number] as Uint32Array;
    let at = part.length === 0 ? 0 : slotOf(part, high, low);
    const isNew = part.length === 0 || part[at + 3] === 0;
    if (isNew && ((this.#used[number] as number) + 1) * SLOT_WORDS > part.length * LOAD_MAX) {
      part = this.#makeRoom(number);
      at = slotOf(part, high, low);
    }
    if (isNew) {
      this.#used[number] = (this.#used[number] as number) + 1;
      this.#count++;
    }
    part[at] = low;
    part[at + 1] = high;
    part[at + 2] = position.segment;
    part[at + 3] = position.offset;
  }

  /** Forgets what is before this position. */
  raiseFloor(position: FramePosition): void {
    if (comparePositions(position, this.#floor) <= 0) return;
    this.#floor = position;
    this.#unswept = this.#parts.length;
  }

  /** Sweeps so many parts, if there is something to sweep. */
  sweep(parts: number): void {
    for (let left = parts; left > 0 && this.#unswept > 0; left--) this.#sweepNext();
  }

  #sweepNext(): void {
    this.#unswept--;
    if (this.#used[this.#unswept] !== 0) this.#remake(this.#unswept);
  }

  /** A part with room for one more. */
  #makeRoom(number: number): Uint32Array {
    const part = this.#remake(number);
    if (((this.#used[number] as number) + 1) * SLOT_WORDS <= part.length * LOAD_MAX) return part;
    this.raiseFloor(this.#forgettable(part));
    return this.#remake(number);
  }

  /**
   * The position up to which the oldest share of a part goes, and all that stand at the same one. Hashes are spread evenly, so it
   * is about that share of all.
   */
  #forgettable(part: Uint32Array): FramePosition {
    const positions: FramePosition[] = [];
    for (let at = 0; at < part.length; at += SLOT_WORDS) {
      const offset = part[at + 3] as number;
      if (offset !== 0) positions.push({ segment: part[at + 2] as number, offset });
    }
    positions.sort(comparePositions);
    const last = positions[Math.ceil(positions.length * FORGOTTEN_SHARE) - 1];
    assert(last !== undefined, 'a full part holds positions');
    return { segment: last.segment, offset: last.offset + 1 };
  }

  /** The part anew, with what is not forgotten and room for more, as far as the limit allows. */
  #remake(number: number): Uint32Array {
    const old = this.#parts[number] as Uint32Array;
    let live = 0;
    for (let at = 0; at < old.length; at += SLOT_WORDS) if (this.#isLive(old, at)) live++;
    const slots = Math.min(Math.max(Math.ceil((live + 1) / LOAD_NEW), SLOTS_MIN), this.#slotsMax);
    const part = new Uint32Array(slots * SLOT_WORDS);
    for (let at = 0; at < old.length; at += SLOT_WORDS) {
      if (!this.#isLive(old, at)) continue;
      const to = slotOf(part, old[at + 1] as number, old[at] as number);
      for (let word = 0; word < SLOT_WORDS; word++) part[to + word] = old[at + word] as number;
    }
    this.#bytes += part.byteLength - old.byteLength;
    this.#count += live - (this.#used[number] as number);
    this.#used[number] = live;
    this.#parts[number] = part;
    return part;
  }

  #isLive(part: Uint32Array, at: number): boolean {
    const offset = part[at + 3] as number;
    const segment = part[at + 2] as number;
    const { segment: first, offset: firstOffset } = this.#floor;
    return offset !== 0 && (segment > first || (segment === first && offset >= firstOffset));
  }

  #partOf(high: number): number {
    return this.#parts.length === 1 ? 0 : high >>> this.#partShift;
  }
}

/** First word of the slot that holds this hash, or of the empty one where it belongs. */
function slotOf(part: Uint32Array, high: number, low: number): number {
  let at = Math.floor((low / 2 ** 32) * (part.length / SLOT_WORDS)) * SLOT_WORDS;
  while (part[at + 3] !== 0 && (part[at] !== low || part[at + 1] !== high)) {
    at += SLOT_WORDS;
    if (at === part.length) at = 0;
  }
  return at;
}
