import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { msToNs } from '../core/clock.ts';
import { type Disk, type DiskFile, errnoOf } from './disk.ts';
import { type RawBlock, RawBlocks } from './raw-blocks.ts';
import {
  BLOCK_HEAD_BYTES,
  type Block,
  compressBlock,
  decompressBlock,
  encodeBlockHead,
  encodeIndex,
} from './segment-blocks.ts';
import {
  ENTRY_HEAD_BYTES,
  encodeHeader,
  entryLength,
  HEADER_BYTES,
  openEntry,
  type SegmentKind,
  segmentFileName,
  UNFINISHED_SUFFIX,
} from './segment-format.ts';
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
  { write, empty }: CompactionWork = workHere,
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
  await empty(disk, rawPath);
  await unlinkIfThere(place, rawPath);
  await disk.syncFolder(folder);
  return { result: 'compacted' };
}

/** The length of the compressed file, or what keeps the raw one from being read to its end. */
type Written = number | Damage | 'stopped';

/** What is to be done with the bytes of files: right here, or on a thread of its own (compaction-thread.ts). */
export interface CompactionWork {
  /** Writes the compressed file of a segment, under a name that does not count yet, and makes its bytes durable. */
  write(place: Place, segment: Segment, path: string, pace: CompactionPace): Promise<Written>;
  /** Takes all bytes out of a file. */
  empty(disk: Disk, path: string): Promise<void>;
}

export const workHere: CompactionWork = { write: writeCompressed, empty: emptyFile };

async function writeCompressed(place: Place, segment: Segment, path: string, pace: CompactionPace): Promise<Written> {
  const raw = await place.disk.openToRead(segmentPath(place, segment.segment));
  try {
    const target = await place.disk.create(path);
    try {
      const header = encodeHeader(place.kind.compressed ?? place.kind, segment.segment, msToNs(segment.createdMs));
      await target.write([header], 0);
      const writer = new BlockWriter(target, place.kind, segment.segment);
      const blocks = new RawBlocks(raw, segment.bytes);
      for (;;) {
        await pace.breathe();
        if (pace.isStopped()) return 'stopped';
        const block = await blocks.next();
        if (block === undefined) return await writer.finish(segment.bytes);
        if (block === 'damaged' || !(await writer.add(block))) return await damageOf(place, segment, raw);
      }
    } finally {
      await target.close();
    }
  } finally {
    await raw.close();
  }
}

/** Where the raw segment is damaged; throws when it is not. */
async function damageOf({ kind }: Place, { segment, bytes }: Segment, raw: DiskFile): Promise<Damage> {
  const { damage } = await scanSegment(raw, kind, segment, bytes, () => undefined, true);
  const [first] = damage;
  if (first === undefined) throw new Error('a block does not decompress to what it was');
  return first;
}

/** Compresses blocks and writes them one after the other. */
class BlockWriter {
  readonly #file: DiskFile;
  readonly #kind: SegmentKind;
  readonly #segment: number;
  readonly #blocks: Block[] = [];
  #at = HEADER_BYTES;
  #syncedAt = 0;

  constructor(file: DiskFile, kind: SegmentKind, segment: number) {
    this.#file = file;
    this.#kind = kind;
    this.#segment = segment;
  }

  /**
   * The raw bytes go away for ever: whether the compressed ones give back entries whose checksums are right is tried, not
   * believed. False when they do not, because either are damaged; nothing is written then.
   */
  async add({ bytes, rawOffset, entries }: RawBlock): Promise<boolean> {
    const compressed = compressBlock(bytes);
    const opened = decompressBlock(compressed, bytes.length);
    const found = this.#open(opened, rawOffset);
    letGo(opened);
    if (found?.entries !== entries) return false;
    const sizes = { compressedBytes: compressed.length, rawBytes: bytes.length };
    const block = { at: this.#at, ...sizes, rawOffset, ...found, checksum: crc32(compressed) };
    await this.#file.write([encodeBlockHead(block), compressed], this.#at);
    letGo(compressed);
    this.#blocks.push(block);
    this.#at += BLOCK_HEAD_BYTES + sizes.compressedBytes;
    if (this.#at - this.#syncedAt > SYNC_BYTES) {
      await this.#file.fdatasync();
      this.#syncedAt = this.#at;
    }
    return true;
  }

  /** Returns the length of the file, which is durable then; its name is not. */
  async finish(rawEnd: number): Promise<number> {
    const index = encodeIndex(this.#blocks, this.#at, rawEnd);
    await this.#file.write([index], this.#at);
    await this.#file.fdatasync();
    return this.#at + index.length;
  }

  /** Reads every entry as its readers will. Undefined when one is damaged. */
  #open(raw: Buffer, rawOffset: number): Pick<Block, 'entries' | 'firstNs' | 'lastNs'> | undefined {
    let [at, entries, firstNs, lastNs] = [0, 0, 0n, 0n];
    while (at < raw.length) {
      const length = at + ENTRY_HEAD_BYTES <= raw.length ? entryLength(raw, at) : undefined;
      if (length === undefined || at + length > raw.length) return undefined;
      const position = { segment: this.#segment, offset: rawOffset + at };
      const entry = openEntry(raw.subarray(at, at + length), this.#kind, position);
      if (entry === undefined) return undefined;
      if (entries === 0 || entry.timeNs < firstNs) firstNs = entry.timeNs;
      if (entries === 0 || entry.timeNs > lastNs) lastNs = entry.timeNs;
      at += length;
      entries += 1;
    }
    return { entries, firstNs, lastNs };
  }
}

/** Gives the memory of a large buffer back at once: V8 collects what nobody has any more only when there is much of it. */
function letGo({ buffer }: Buffer<ArrayBuffer>): void {
  // Smaller ones may share theirs with others.
  if (buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}

async function emptyFile(disk: Disk, path: string): Promise<void> {
  const file = await disk.open(path);
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
