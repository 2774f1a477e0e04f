import { join } from 'node:path';
import { AppError, describeError } from '../core/errors.ts';
import { type Disk, type DiskFile, errnoOf, isShortage, type SyncFile } from './disk.ts';
import { letGo } from './let-go.ts';
import { ReadAhead } from './read-ahead.ts';
import { type Block, type BlockIndex, findBlock, openBlockSync, readBlockIndex, readOn } from './segment-blocks.ts';
import {
  ENTRY_HEAD_BYTES,
  entryLength,
  type FramePosition,
  HEADER_BYTES,
  openEntry,
  type RawEntry,
  type SegmentKind,
  segmentFileName,
} from './segment-format.ts';

/** An entry longer than this is looked for in the file before there is memory for it. */
const LENGTH_TRUSTED_MAX = 2 * 1024 * 1024;

/** Bytes of a file that cannot be read as what they should be. */
export interface Damage {
  /** Where they start in the file. */
  readonly offset: number;
  /** How many are lost; 0 when all that they held is known from elsewhere. */
  readonly bytes: number;
  readonly reason: string;
  /** Smallest and largest time of what is lost, epoch nanoseconds, as far as known. */
  readonly firstNs?: bigint;
  readonly lastNs?: bigint;
}

/** How far a scan came. */
export interface ScanEnd {
  /** Where in the raw segment it ended. */
  readonly bytes: number;
  readonly entries: number;
  readonly damage: readonly Damage[];
}

/**
 * Visits the entries of one raw segment in order, up to `limit` bytes of the file or the first that is damaged.
 * Bodies share the memory of the chunk they were read with. Unless `isReused`, nothing is used again, so they may be kept.
 */
export async function scanSegment(
  file: DiskFile,
  kind: SegmentKind,
  segment: number,
  limit: number,
  visit: (entry: RawEntry) => void | Promise<void>,
  isReused = false,
): Promise<ScanEnd> {
  const reads = new ReadAhead(file, HEADER_BYTES, limit, isReused);
  try {
    return await scanChunks(reads, kind, segment, limit, visit);
  } finally {
    await reads.end();
  }
}

async function scanChunks(
  reads: ReadAhead,
  kind: SegmentKind,
  segment: number,
  limit: number,
  visit: (entry: RawEntry) => void | Promise<void>,
): Promise<ScanEnd> {
  let entries = 0;
  let offset = HEADER_BYTES;
  let timeNs: bigint | undefined;
  const endsBy = (reason: string): ScanEnd => {
    const times = timeNs === undefined ? {} : { firstNs: timeNs };
    return { bytes: offset, entries, damage: [{ offset, bytes: limit - offset, reason, ...times }] };
  };
  while (offset < limit) {
    if (!(await reads.load(offset, ENTRY_HEAD_BYTES))) return endsBy('the file ends inside an entry');
    const length = entryLength(reads.chunk, offset - reads.chunkAt);
    if (length === undefined) return endsBy('an entry has an impossible length');
    if (!(await reads.load(offset, length))) return endsBy('the file ends inside an entry');
    const start = offset - reads.chunkAt;
    const entry = openEntry(reads.chunk.subarray(start, start + length), kind, { segment, offset });
    if (!entry) return endsBy('the checksum of an entry does not match');
    timeNs = entry.timeNs;
    const visited = visit(entry);
    if (visited) await visited;
    offset += length;
    entries += 1;
  }
  return { bytes: Math.min(offset, limit), entries, damage: [] };
}

/** Blocks kept after they were decompressed: those that the pieces of one trace lie in come again right after. */
const BLOCKS_BYTES_MAX = 4 * 1024 * 1024;

interface OpenSegment {
  readonly file: SyncFile;
  /** Of a compressed segment; grows while that is appended to. */
  index?: BlockIndex;
}

/** Reads single entries by position, with few files open. Sees whatever has been written, from any thread. */
export class SegmentReader {
  readonly #folder: string;
  readonly #kind: SegmentKind;
  readonly #disk: Disk;
  readonly #filesMax: number;
  /** Least recently used first. */
  readonly #files = new Map<number, OpenSegment>();
  /** Decompressed, by what they are the content of; least recently used first. */
  readonly #blocks = new Map<Block, Buffer>();
  #blocksBytes = 0;

  constructor(folder: string, kind: SegmentKind, disk: Disk, filesMax = 32) {
    this.#folder = folder;
    this.#kind = kind;
    this.#disk = disk;
    this.#filesMax = filesMax;
  }

  /** Throws AppError `storage` when the segment is gone or the bytes are damaged; no AppError when the system is short of something. */
  read(position: FramePosition): RawEntry {
    try {
      return this.#read(position);
    } catch (error) {
      return this.#readAgain(position, error);
    }
  }

  /**
   * A repair may have put another file in the place of the one that is open. What the system is short of may be what this
   * reader holds.
   */
  #readAgain(position: FramePosition, failure: unknown): RawEntry {
    if (isShortage(failure)) this.close();
    else this.forget(position.segment);
    try {
      return this.#read(position);
    } catch (error) {
      // Nothing is wrong with the entry: who takes it for lost would lose it for ever.
      if (error instanceof AppError || isShortage(error)) throw error;
      const place = `${segmentFileName(this.#kind, position.segment)} at ${position.offset}`;
      throw new AppError('storage', `cannot read ${this.#kind.words} ${place}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }

  /** Closes the file of a dropped segment. */
  forget(segment: number): void {
    const open = this.#files.get(segment);
    for (const block of open?.index?.blocks ?? []) this.#forgetBlock(block);
    open?.file.close();
    this.#files.delete(segment);
  }

  close(): void {
    for (const segment of [...this.#files.keys()]) this.forget(segment);
  }

  #read(position: FramePosition): RawEntry {
    const open = this.#open(position.segment);
    const bytes = open.index ? this.#fromBlock(open, open.index, position.offset) : fromRaw(open.file, position.offset);
    const entry = openEntry(bytes, this.#kind, position);
    if (!entry) throw new Error('the entry is damaged');
    return entry;
  }

  #fromBlock(open: OpenSegment, index: BlockIndex, offset: number): Buffer {
    const block = findBlock(index.blocks, offset) ?? this.#newBlock(open, index, offset);
    if (!block) throw new Error('there is no entry');
    const raw = this.#rawOf(open.file, block);
    const start = offset - block.rawOffset;
    const length = start + ENTRY_HEAD_BYTES <= raw.length ? entryLength(raw, start) : undefined;
    if (length === undefined || start + length > raw.length) {
      // What a writer was in the middle of when the block was read is whole now, or will never be.
      this.#forgetBlock(block);
      throw new Error('there is no entry');
    }
    // A copy: who keeps one entry must not keep its block.
    return Buffer.from(raw.subarray(start, start + length));
  }

  /** In what was appended since the index was read. */
  #newBlock(open: OpenSegment, index: BlockIndex, offset: number): Block | undefined {
    if (index.isClosed) return undefined;
    const last = index.blocks.at(-1);
    open.index = readOn(open.file, index);
    // The last block may have grown: it is another one now.
    if (last && !open.index.blocks.includes(last)) this.#forgetBlock(last);
    return findBlock(open.index.blocks, offset);
  }

  #rawOf(file: SyncFile, block: Block): Buffer {
    let raw = this.#blocks.get(block);
    if (raw === undefined) {
      const bytes = Buffer.allocUnsafeSlow(block.bytes);
      raw = openBlockSync(bytes.subarray(0, file.read(bytes, block.at)), block).raw;
      letGo(bytes);
      this.#blocksBytes += raw.length;
    }
    this.#blocks.delete(block);
    this.#blocks.set(block, raw);
    for (const oldest of this.#blocks.keys()) {
      // The one that is wanted now stays, however large.
      if (this.#blocksBytes <= BLOCKS_BYTES_MAX || oldest === block) break;
      this.#forgetBlock(oldest);
    }
    return raw;
  }

  #forgetBlock(block: Block): void {
    const raw = this.#blocks.get(block);
    if (raw === undefined) return;
    this.#blocks.delete(block);
    this.#blocksBytes -= raw.length;
    letGo(raw);
  }

  #open(segment: number): OpenSegment {
    const known = this.#files.get(segment);
    const open = known ?? openSegment(this.#disk, this.#folder, this.#kind, segment);
    this.#files.delete(segment);
    this.#files.set(segment, open);
    for (const oldest of this.#files.keys()) {
      if (this.#files.size <= this.#filesMax) break;
      this.forget(oldest);
    }
    return open;
  }
}

function fromRaw(file: SyncFile, offset: number): Buffer {
  const head = Buffer.allocUnsafe(ENTRY_HEAD_BYTES);
  const length = file.read(head, offset) === head.length ? entryLength(head, 0) : undefined;
  // A length that is none must not have gigabytes made ready.
  if (length === undefined || (length > LENGTH_TRUSTED_MAX && offset + length > file.size()))
    throw new Error('there is no entry');
  const bytes = Buffer.allocUnsafeSlow(length);
  if (file.read(bytes, offset) !== length) throw new Error('there is no entry');
  return bytes;
}

/** The compressed file where there is one. */
function openSegment(disk: Disk, folder: string, kind: SegmentKind, segment: number): OpenSegment {
  if (kind.compressed) {
    try {
      return openCompressed(disk, join(folder, segmentFileName(kind.compressed, segment)));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
  return { file: disk.openSync(join(folder, segmentFileName(kind, segment))) };
}

function openCompressed(disk: Disk, path: string): OpenSegment {
  const file = disk.openSync(path);
  try {
    return { file, index: readBlockIndex(file) };
  } catch (error) {
    file.close();
    throw error;
  }
}
