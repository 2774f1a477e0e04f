import type { DiskFile } from './disk.ts';
import { BLOCK_RAW_BYTES } from './segment-blocks.ts';
import { ENTRY_HEAD_BYTES, entryLength, HEADER_BYTES } from './segment-format.ts';

/** Whole entries, one after the other, as they lie in the raw segment. */
export interface RawBlock {
  /** Valid until the next block is asked for. */
  readonly bytes: Buffer;
  readonly rawOffset: number;
  readonly entries: number;
}

/**
 * Cuts a raw segment into blocks: as many entries each as fit BLOCK_RAW_BYTES, or one that is larger. Goes by the lengths
 * that the entries say; whether their bytes are right is for the caller to find out.
 */
export class RawBlocks {
  readonly #file: DiskFile;
  readonly #end: number;
  /** The same for all blocks: what comes from the disk is compressed right where it was read. */
  #memory = Buffer.allocUnsafeSlow(BLOCK_RAW_BYTES);
  #filled = 0;
  /** Where in the segment the memory begins. */
  #offset = HEADER_BYTES;
  /** Bytes of the memory that are the last block's. */
  #given = 0;

  /** `end`: up to where the segment has entries. */
  constructor(file: DiskFile, end: number) {
    this.#file = file;
    this.#end = end;
  }

  /** Undefined when there is no more, 'damaged' when what follows does not say truly where it ends. */
  async next(): Promise<RawBlock | undefined | 'damaged'> {
    this.#memory.copyWithin(0, this.#given, this.#filled);
    this.#filled -= this.#given;
    this.#offset += this.#given;
    this.#given = 0;
    if (this.#offset >= this.#end) return undefined;
    await this.#fill(BLOCK_RAW_BYTES);
    const found = wholeEntries(this.#memory.subarray(0, Math.min(this.#filled, BLOCK_RAW_BYTES)));
    if (found.entries > 0) return this.#give(found.bytes, found.entries);
    const length = this.#filled < ENTRY_HEAD_BYTES ? undefined : entryLength(this.#memory, 0);
    if (length === undefined || this.#offset + length > this.#end) return 'damaged';
    await this.#fill(length);
    return this.#filled < length ? 'damaged' : this.#give(length, 1);
  }

  #give(bytes: number, entries: number): RawBlock {
    this.#given = bytes;
    return { bytes: this.#memory.subarray(0, bytes), rawOffset: this.#offset, entries };
  }

  /** Has so many bytes in memory, or all that are left. */
  async #fill(bytes: number): Promise<void> {
    const wanted = Math.min(bytes, this.#end - this.#offset);
    if (wanted <= this.#filled) return;
    if (this.#memory.length < wanted) {
      const larger = Buffer.allocUnsafeSlow(wanted);
      this.#memory.copy(larger, 0, 0, this.#filled);
      this.#memory = larger;
    }
    this.#filled += await this.#file.read(this.#memory.subarray(this.#filled, wanted), this.#offset + this.#filled);
  }
}

/** How many there are, and their bytes. */
function wholeEntries(bytes: Buffer): { bytes: number; entries: number } {
  let [at, entries] = [0, 0];
  while (at + ENTRY_HEAD_BYTES <= bytes.length) {
    const length = entryLength(bytes, at);
    if (length === undefined || at + length > bytes.length) break;
    at += length;
    entries += 1;
  }
  return { bytes: at, entries };
}
