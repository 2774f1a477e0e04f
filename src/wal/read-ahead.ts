import type { DiskFile } from './disk.ts';

/**
 * Bytes of a read: large enough that the disk streams, small enough that the event loop breathes in between and that they may stay
 * in the processor's cache until they are looked through.
 */
const CHUNK_BYTES = 1024 * 1024;

/** A chunk lies behind room for the beginning of an entry that the one before it ends with. */
const ROOM_BYTES = CHUNK_BYTES;

/** The chunk that comes next, behind its room. */
interface Ahead {
  readonly memory: Buffer;
  readonly read: Promise<number>;
}

/**
 * Reads a file from its beginning to its end, entry by entry: while one chunk is looked through the next one is on its way, so that
 * the disk and who looks wait for each other no longer than they must.
 */
export class ReadAhead {
  /** What is there, and where in the file it starts. */
  chunk: Buffer = Buffer.alloc(0);
  chunkAt: number;
  readonly #file: DiskFile;
  readonly #limit: number;
  readonly #isReused: boolean;
  #ahead: Ahead | undefined;
  /** What `chunk` lies in, and what may be read into next. */
  #memory: Buffer | undefined;
  #free: Buffer | undefined;

  /** Reads no further than `limit`. Where `isReused`, bytes are there until the next load, and no longer. */
  constructor(file: DiskFile, start: number, limit: number, isReused: boolean) {
    this.#file = file;
    this.chunkAt = start;
    this.#limit = limit;
    this.#isReused = isReused;
  }

  /** Brings so many bytes from `offset` on, none of those before. False when there are fewer. */
  async load(offset: number, bytes: number): Promise<boolean> {
    if (offset + bytes <= this.chunkAt + this.chunk.length) return true;
    const rest = this.chunk.subarray(Math.min(offset - this.chunkAt, this.chunk.length));
    const { memory, read } = this.#ahead ?? this.#begin();
    this.#ahead = undefined;
    const got = await read;
    if (bytes > ROOM_BYTES) {
      const wanted = Math.min(bytes, this.#limit - offset);
      this.chunk = await this.#readLarge(offset, wanted, rest, memory.subarray(ROOM_BYTES, ROOM_BYTES + got));
      this.#free = memory;
    } else {
      memory.set(rest, ROOM_BYTES - rest.length);
      this.chunk = memory.subarray(ROOM_BYTES - rest.length, ROOM_BYTES + got);
      if (this.#isReused) this.#free = this.#memory;
      this.#memory = memory;
    }
    this.chunkAt = offset;
    this.#ahead = this.#begin();
    return this.chunk.length >= bytes;
  }

  /** Resolves when the file is not used any more. */
  async end(): Promise<void> {
    await this.#ahead?.read.catch(() => undefined);
  }

  #begin(): Ahead {
    const at = this.chunkAt + this.chunk.length;
    const memory = this.#free ?? Buffer.allocUnsafeSlow(ROOM_BYTES + CHUNK_BYTES);
    this.#free = undefined;
    const bytes = Math.max(0, Math.min(CHUNK_BYTES, this.#limit - at));
    const read =
      bytes === 0 ? Promise.resolve(0) : this.#file.read(memory.subarray(ROOM_BYTES, ROOM_BYTES + bytes), at);
    // Who loads it is told.
    read.catch(() => undefined);
    return { memory, read };
  }

  /** An entry that is longer than a chunk, or what there is of it. */
  async #readLarge(offset: number, wanted: number, rest: Buffer, more: Buffer): Promise<Buffer> {
    const filled = rest.length + more.length;
    const large = Buffer.allocUnsafeSlow(Math.max(wanted, filled));
    large.set(rest);
    large.set(more, rest.length);
    return large.subarray(0, filled + (await this.#file.read(large.subarray(filled), offset + filled)));
  }
}
