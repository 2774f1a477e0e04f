import { constants, createZstdCompress, type ZstdCompress, zstdCompressSync } from 'node:zlib';
import { BLOCK_RAW_BYTES } from './segment-blocks.ts';

/** Compresses what is appended to a segment, batch by batch (segment-blocks.ts). One at a time. */
export interface PieceEncoder {
  /** `bytes`: length of all buffers. Whether the piece goes on with the block of the one before. */
  encode(buffers: readonly Buffer[], bytes: number): Promise<EncodedPiece>;
  /** The next piece begins a block: in another segment, or because the one before is not there. */
  restart(): void;
}

export interface EncodedPiece {
  readonly compressed: Buffer;
  readonly goesOn: boolean;
}

/** Higher levels leave as many bytes of the ids and times that are most of what is left, and cost more: see ARCHITECTURE.md. */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1 };
const OUTPUT_BYTES = 64 * 1024;
/** A larger batch gets memory of its own. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

/**
 * On a thread of the pool, and with one compressor: it knows what the pieces of the block before said, so that small ones are
 * compressed nearly as well as large ones, and its memory is used again.
 */
export class StreamedPieces implements PieceEncoder {
  #stream: ZstdCompress | undefined;
  #output: Buffer[] = [];
  #memory = Buffer.alloc(0);
  /** Of the block that the next piece goes on with. */
  #rawBytes = 0;

  async encode(buffers: readonly Buffer[], bytes: number): Promise<EncodedPiece> {
    const goesOn = this.#rawBytes > 0;
    this.#stream ??= this.#open();
    const stream = this.#stream;
    await new Promise<void>((resolve, reject) => {
      stream.write(this.#gather(buffers, bytes), (error) => (error ? reject(error) : resolve()));
    });
    this.#rawBytes += bytes;
    if (this.#rawBytes >= BLOCK_RAW_BYTES) {
      await new Promise<void>((resolve) => stream.flush(constants.ZSTD_e_end, resolve));
      this.#rawBytes = 0;
    }
    return { compressed: this.#taken(stream), goesOn };
  }

  restart(): void {
    this.#stream?.destroy();
    this.#stream = undefined;
    this.#output = [];
    this.#rawBytes = 0;
  }

  #open(): ZstdCompress {
    const stream = createZstdCompress({ params: PARAMS, flush: constants.ZSTD_e_flush, chunkSize: OUTPUT_BYTES });
    stream.on('data', (bytes: Buffer) => this.#output.push(bytes));
    // Told by the callback of the write as well.
    stream.on('error', () => undefined);
    return stream;
  }

  /** In one buffer: each write is a turn of the pool. */
  #gather(buffers: readonly Buffer[], bytes: number): Buffer {
    if (this.#memory.length < bytes && bytes <= KEPT_BYTES_MAX) {
      this.#memory = Buffer.allocUnsafeSlow(Math.min(2 * bytes, KEPT_BYTES_MAX));
    }
    const memory = this.#memory.length < bytes ? Buffer.allocUnsafeSlow(bytes) : this.#memory;
    let at = 0;
    for (const buffer of buffers) {
      memory.set(buffer, at);
      at += buffer.length;
    }
    return memory.subarray(0, bytes);
  }

  #taken(stream: ZstdCompress): Buffer {
    const rest: Buffer | null = stream.read();
    if (rest) this.#output.push(rest);
    const output = this.#output;
    this.#output = [];
    const [first = Buffer.alloc(0), ...more] = output;
    return more.length === 0 ? first : Buffer.concat(output);
  }
}

/** Right here, each piece a block of its own: what a simulated disk does must not depend on threads. */
export class WholePieces implements PieceEncoder {
  async encode(buffers: readonly Buffer[]): Promise<EncodedPiece> {
    return { compressed: zstdCompressSync(Buffer.concat(buffers), { params: PARAMS }), goesOn: false };
  }

  restart(): void {}
}
