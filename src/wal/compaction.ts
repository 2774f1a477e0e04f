import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { msToNs } from '../core/clock.ts';
import { type DiskFile, errnoOf } from './disk.ts';
import {
  BLOCK_HEAD_BYTES,
  BLOCK_RAW_BYTES,
  type Block,
  compressBlock,
  decompressBlock,
  encodeBlockHead,
  encodeIndex,
} from './segment-blocks.ts';
import { encodeHeader, HEADER_BYTES, type RawEntry, segmentFileName, UNFINISHED_SUFFIX } from './segment-format.ts';
import { type Damage, scanSegment } from './segment-reader.ts';
import { type Place, type Segment, type SegmentFolder, segmentPath } from './segment-recovery.ts';

/** Compressed bytes between two fsyncs: one large fsync at the end would keep those of the appends waiting. */
const SYNC_BYTES = 4 * 1024 * 1024;

/** How a compaction makes way for what matters more. */
export interface CompactionPace {
  /** Awaited before each block. */
  breathe(): Promise<void>;
  /** Asked before each block; an unfinished compaction leaves nothing behind. */
  isStopped(): boolean;
}

export type CompactionEnd =
  | { readonly result: 'compacted' | 'stopped' }
  /** Stays raw: compaction must not make a loss final. */
  | { readonly result: 'damaged'; readonly damage: Damage };

/**
 * Replaces the file of a sealed segment by a compressed one with the same entries at the same positions. The order of the
 * steps is written down in segment-format.ts, number 5. When it throws, the raw segment is what counts, now and after a
 * restart, unless `segment.compressedBytes` is set: then only tidying up failed, and the next start does it.
 */
export async function compactSegment(
  place: SegmentFolder,
  segment: Segment,
  pace: CompactionPace,
  write: WriteCompressed = writeCompressed,
): Promise<CompactionEnd> {
  const { disk, folder, kind } = place;
  if (!kind.compressed) throw new Error(`segments of the ${kind.words} are not compacted`);
  const rawPath = segmentPath(place, segment.segment);
  const path = join(folder, segmentFileName(kind.compressed, segment.segment));
  const unfinished = path + UNFINISHED_SUFFIX;
  await unlinkIfThere(place, unfinished);
  let compressedBytes: number;
  try {
    const written = await write(place, segment, unfinished, pace);
    if (written === 'stopped' || typeof written !== 'number') {
      await unlinkIfThere(place, unfinished);
      return written === 'stopped' ? { result: 'stopped' } : { result: 'damaged', damage: written };
    }
    compressedBytes = written;
    await disk.rename(unfinished, path);
    await disk.syncFolder(folder);
  } catch (error) {
    // The renamed file, if it came so far, is whole; the next try or the next start makes do with it.
    await unlinkIfThere(place, unfinished).catch(() => undefined);
    throw error;
  }
  segment.compressedBytes = compressedBytes;
  await emptyFile(place, rawPath);
  await unlinkIfThere(place, rawPath);
  await disk.syncFolder(folder);
  return { result: 'compacted' };
}

/** The length of the compressed file, or what keeps the raw one from being read to its end. */
type Written = number | Damage | 'stopped';

/** Writes the compressed file, under a name that does not count yet. */
export type WriteCompressed = (place: Place, segment: Segment, path: string, pace: CompactionPace) => Promise<Written>;

/** Right here; see compaction-thread.ts. */
export const writeCompressed: WriteCompressed = async (place, segment, path, pace) => {
  const raw = await place.disk.openToRead(segmentPath(place, segment.segment));
  try {
    const target = await place.disk.create(path);
    try {
      const writer = new BlockWriter(target, pace);
      const header = encodeHeader(place.kind.compressed ?? place.kind, segment.segment, msToNs(segment.createdMs));
      await target.write([header], 0);
      const visit = (entry: RawEntry) => writer.add(entry);
      const end = await scanSegment(raw, place.kind, segment.segment, segment.bytes, visit, true);
      const [damage] = end.damage;
      return damage ?? (await writer.finish(end.bytes));
    } catch (error) {
      if (error === STOPPED) return 'stopped';
      throw error;
    } finally {
      await target.close();
    }
  } finally {
    await raw.close();
  }
};

/** Ends a compaction from within. */
const STOPPED = new Error('the compaction was stopped');

/** Gathers entries into blocks and writes these one after the other. */
class BlockWriter {
  readonly #file: DiskFile;
  readonly #pace: CompactionPace;
  readonly #blocks: Block[] = [];
  /** What the next block holds; used again for each. */
  #raw = Buffer.allocUnsafeSlow(BLOCK_RAW_BYTES);
  #rawBytes = 0;
  #rawOffset = 0;
  #entries = 0;
  #firstNs = 0n;
  #lastNs = 0n;
  #at = HEADER_BYTES;
  #syncedAt = 0;

  constructor(file: DiskFile, pace: CompactionPace) {
    this.#file = file;
    this.#pace = pace;
  }

  add(entry: RawEntry): undefined | Promise<void> {
    if (this.#rawBytes > 0 && this.#rawBytes + entry.length > BLOCK_RAW_BYTES) {
      return this.#writeBlock().then(() => this.#gather(entry));
    }
    this.#gather(entry);
    return undefined;
  }

  /** Returns the length of the file, which is durable then; its name is not. */
  async finish(rawEnd: number): Promise<number> {
    await this.#writeBlock();
    const index = encodeIndex(this.#blocks, this.#at, rawEnd);
    await this.#file.write([index], this.#at);
    await this.#file.fdatasync();
    return this.#at + index.length;
  }

  #gather({ bytes, position, timeNs }: RawEntry): void {
    // Only an entry that is larger than a block, which is alone in its own.
    if (bytes.length > this.#raw.length) this.#raw = Buffer.allocUnsafeSlow(bytes.length);
    bytes.copy(this.#raw, this.#rawBytes);
    if (this.#rawBytes === 0) {
      this.#rawOffset = position.offset;
      this.#firstNs = timeNs;
      this.#lastNs = timeNs;
    } else if (timeNs < this.#firstNs) this.#firstNs = timeNs;
    else if (timeNs > this.#lastNs) this.#lastNs = timeNs;
    this.#rawBytes += bytes.length;
    this.#entries++;
  }

  async #writeBlock(): Promise<void> {
    if (this.#rawBytes === 0) return;
    await this.#pace.breathe();
    if (this.#pace.isStopped()) throw STOPPED;
    const raw = this.#raw.subarray(0, this.#rawBytes);
    const compressed = compressBlock(raw);
    const block = {
      at: this.#at,
      compressedBytes: compressed.length,
      rawBytes: raw.length,
      rawOffset: this.#rawOffset,
      entries: this.#entries,
      firstNs: this.#firstNs,
      lastNs: this.#lastNs,
      checksum: crc32(compressed),
    };
    // The raw bytes go away for ever: whether these give them back is tried, not believed.
    if (!decompressBlock(compressed, block).equals(raw)) throw new Error('a block does not decompress to what it was');
    await this.#file.write([encodeBlockHead(block), compressed], this.#at);
    this.#blocks.push(block);
    this.#at += BLOCK_HEAD_BYTES + compressed.length;
    this.#rawBytes = 0;
    this.#entries = 0;
    if (this.#at - this.#syncedAt > SYNC_BYTES) {
      await this.#file.fdatasync();
      this.#syncedAt = this.#at;
    }
  }
}

async function emptyFile(place: SegmentFolder, path: string): Promise<void> {
  const file = await place.disk.open(path);
  try {
    await file.truncate(0);
  } finally {
    await file.close();
  }
}

async function unlinkIfThere(place: SegmentFolder, path: string): Promise<void> {
  try {
    await place.disk.unlink(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}
