import type { Signal } from '../core/evidence.ts';
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
 * what is kept for a while only to be dropped is what the garbage collector goes through the whole heap for. That is found out for each
 * signal by itself: log records are read when their trace settles by what is known of its spans, too.
 */
export class FrameCache {
  readonly #bytesMax: number;
  readonly #trustBytesMax: number;
  readonly #frames = new Map<number, StoredFrame>();
  #bytes = 0;
  #readLast = 0;
  readonly #signals = new Map<Signal, SignalUse>();

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
    this.#trustBytesMax = Math.max(bytesMax / SELDOM, TRUST_BYTES_MIN);
  }

  get(position: FramePosition): StoredFrame | undefined {
    return this.#frames.get(positionKey(position));
  }

  /** To be told of each frame that is read, be it from here or from the disk. */
  wasRead({ position, length, signal }: StoredFrame): void {
    const key = positionKey(position);
    const use = this.#useOf(signal);
    if (key <= use.readLast) return;
    use.readLast = key;
    use.trustBytes = Math.min(use.trustBytes + SELDOM * memoryOf(length), this.#trustBytesMax);
    if (key > this.#readLast) this.#readLast = key;
  }

  add(frame: StoredFrame): void {
    const bytes = memoryOf(frame.length);
    const use = this.#useOf(frame.signal);
    if (use.trustBytes <= 0) {
      if (use.bytes > 0) this.#makeRoom(this.#bytesMax, frame.signal);
      return;
    }
    use.trustBytes -= bytes;
    if (this.#bytes + bytes > this.#bytesMax) this.#makeRoom(bytes);
    if (this.#bytes + bytes > this.#bytesMax) return;
    this.#frames.set(positionKey(frame.position), frame);
    this.#count(frame, bytes);
  }

  /** Lets go of frames, be it only of one signal, until there is room for so many bytes or the one that was read last is reached. */
  #makeRoom(bytes: number, only?: Signal): void {
    for (const [key, frame] of this.#frames) {
      if (key >= this.#readLast || this.#bytes + bytes <= this.#bytesMax) return;
      if (only !== undefined && frame.signal !== only) continue;
      this.#frames.delete(key);
      this.#count(frame, -memoryOf(frame.length));
    }
  }

  #count({ signal }: StoredFrame, bytes: number): void {
    this.#bytes += bytes;
    this.#useOf(signal).bytes += bytes;
  }

  #useOf(signal: Signal): SignalUse {
    let use = this.#signals.get(signal);
    if (use === undefined) {
      use = { trustBytes: this.#trustBytesMax, readLast: 0, bytes: 0 };
      this.#signals.set(signal, use);
    }
    return use;
  }
}

interface SignalUse {
  /** Bytes that may be kept yet though nobody asks for them: less with each frame that comes, more with each that is read. */
  trustBytes: number;
  readLast: number;
  /** That are kept. */
  bytes: number;
}

function memoryOf(length: number): number {
  return length + FRAME_MEMORY_BYTES;
}
