/** Texts are written one behind the other into pieces of memory of this size: many records each. */
const CHUNK_BYTES = 1024 * 1024;

/** Pieces that are free and kept: of as many records as two writes have. To make new ones costs more than to write them. */
const FREE_CHUNKS_MAX = 32;

const NO_CHUNK: Buffer = Buffer.alloc(0);

/** The memory that texts of records lie in, piece by piece; pieces that nobody looks at any more are used again. */
export class RecordMemory {
  /** The piece that is written into, from `end` on, which is always at a word of four bytes; and its words. */
  chunk: Buffer = NO_CHUNK;
  words: Uint32Array = new Uint32Array(0);
  end = 0;
  /** Those that were begun since they were asked for last. */
  #used: Buffer[] = [];
  readonly #free: Buffer[] = [];

  /** Sees to it that so many bytes, whole words, lie behind `end`. */
  reserve(size: number): void {
    if (this.end + size <= this.chunk.length) return;
    const free = size <= CHUNK_BYTES ? this.#free.pop() : undefined;
    this.chunk = free ?? Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, size));
    this.words = new Uint32Array(this.chunk.buffer);
    this.#used.push(this.chunk);
    this.end = 0;
  }

  /** The memory that texts were written into since the last call; what comes next is written elsewhere. */
  takeChunks(): readonly Buffer[] {
    const used = this.#used;
    this.#used = [];
    this.chunk = NO_CHUNK;
    this.end = 0;
    return used;
  }

  /** Nobody looks at texts in them any more. */
  recycle(chunks: readonly Buffer[]): void {
    for (const chunk of chunks) {
      if (chunk.length === CHUNK_BYTES && this.#free.length < FREE_CHUNKS_MAX) this.#free.push(chunk);
    }
  }
}
