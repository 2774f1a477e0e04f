import type { StoredFrame } from './frame.ts';
import { type FramePosition, positionKey } from './segment-format.ts';

/** What a frame takes in memory besides its bytes (its objects, measured): most of it when a sender sends span by span. */
const FRAME_MEMORY_BYTES = 512;

/** Where less than one byte in so many is asked for, none is kept. */
const SELDOM = 4;

/** So much may be kept for as long as nothing is known, be the budget ever so small. */
const TRUST_BYTES_MIN = 256 * 1024;

/**
 * Recent frames by position, within a budget of bytes. Frames are read in about the order in which they came: for new ones those make way
 * that came before the one that was read last, and without such they are not kept. Were the oldest to go instead, a little too much of all
 * would leave none that is asked for.
 *
 * Where hardly any is asked for, because most traces settle by what is known of their spans, those few are cheaper to read from the disk:
 * what is kept for a while only to be dropped is what the garbage collector goes through the whole heap for.
 */
export class FrameCache {
  readonly #bytesMax: number;
  readonly #trustBytesMax: number;
  readonly #frames = new Map<number, StoredFrame>();
  #bytes = 0;
  #readLast = 0;
  /** Bytes that may be kept yet though nobody asks for them: less with each frame that comes, more with each that is read. */
  #trustBytes: number;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#trustBytesMax = Math.max(bytesMax / SELDOM, TRUST_BYTES_MIN);
    this.#trustBytes = this.#trustBytesMax;
  }

  get(position: FramePosition): StoredFrame | undefined {
    return this.#frames.get(positionKey(position));
  }

  /** To be told of each frame that is read, be it from here or from the disk. */
  wasRead({ position, length }: StoredFrame): void {
    const key = positionKey(position);
    if (key <= this.#readLast) return;
    this.#readLast = key;
    this.#trustBytes = Math.min(this.#trustBytes + SELDOM * memoryOf(length), this.#trustBytesMax);
  }

  add(frame: StoredFrame): void {
    const bytes = memoryOf(frame.length);
    if (this.#trustBytes <= 0) {
      if (this.#bytes > 0) this.#makeRoom(this.#bytesMax);
      return;
    }
    this.#trustBytes -= bytes;
    if (this.#bytes + bytes > this.#bytesMax) this.#makeRoom(bytes);
    if (this.#bytes + bytes > this.#bytesMax) return;
    this.#frames.set(positionKey(frame.position), frame);
    this.#bytes += bytes;
  }

  #makeRoom(bytes: number): void {
    for (const [key, { length }] of this.#frames) {
      if (key >= this.#readLast || this.#bytes + bytes <= this.#bytesMax) return;
      this.#frames.delete(key);
      this.#bytes -= memoryOf(length);
    }
  }
}

function memoryOf(length: number): number {
  return length + FRAME_MEMORY_BYTES;
}
