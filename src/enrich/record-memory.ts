import { RecordChunk } from '../core/formed-record.ts';

/** Records are written one behind the other into pieces of memory of this size: many each. */
const CHUNK_BYTES = 1024 * 1024;

/** Pieces that are free and kept: of as many records as two writes have. To make new ones costs more than to write them. */
const FREE_CHUNKS_MAX = 32;

const NO_CHUNK = new RecordChunk(new ArrayBuffer(0));

/** The memory that records lie in, piece by piece; pieces that nobody looks at any more are used again. */
export class RecordMemory {
  /** The piece that is written into, from the byte `end` on, which is always a multiple of eight. */
  chunk = NO_CHUNK;
  end = 0;
  /** Those that were begun since they were asked for last. */
  #used: Buffer[] = [];
  readonly #free: Buffer[] = [];

  /** Sees to it that so many bytes lie behind `end`. */
  reserve(size: number): void {
    if (this.end + size <= this.chunk.bytes.length) return;
    const free = size <= CHUNK_BYTES ? this.#free.pop() : undefined;
    const { buffer } = free ?? Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, Math.ceil(size / 8) * 8));
    this.chunk = new RecordChunk(buffer as ArrayBuffer);
    this.#used.push(this.chunk.bytes);
    this.end = 0;
  }

  /** The next record begins behind so many bytes. */
  take(size: number): void {
    this.end += (size + 7) & ~7;
  }

  /** The memory that records were written into since the last call; what comes next is written elsewhere. */
  takeChunks(): readonly Buffer[] {
    const used = this.#used;
    this.#used = [];
    this.chunk = NO_CHUNK;
    this.end = 0;
    return used;
  }

  /** Nobody looks at records in them any more. */
  recycle(chunks: readonly Buffer[]): void {
    for (const chunk of chunks) {
      if (chunk.length === CHUNK_BYTES && this.#free.length < FREE_CHUNKS_MAX) this.#free.push(chunk);
    }
  }
}
