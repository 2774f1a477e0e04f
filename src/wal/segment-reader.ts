import { join } from 'node:path';
import { AppError, describeError } from '../core/errors.ts';
import type { Disk, DiskFile, SyncFile } from './disk.ts';
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

/** Read size of a scan: large enough that the disk streams, small enough that the event loop breathes in between. */
const CHUNK_BYTES = 2 * 1024 * 1024;

/** How far a scan came: the length of the valid prefix, and why it ended there when that was not the end. */
export interface ScanEnd {
  readonly bytes: number;
  readonly entries: number;
  readonly reason?: string;
}

/**
 * Visits the entries of one segment in order, up to `limit` bytes of the file or the first that is damaged. Bodies share
 * the memory of the chunk they were read with; nothing is reused, so they may be kept.
 */
export async function scanSegment(
  file: DiskFile,
  kind: SegmentKind,
  segment: number,
  limit: number,
  visit: (entry: RawEntry) => void | Promise<void>,
): Promise<ScanEnd> {
  let chunk = Buffer.alloc(0);
  let chunkAt = HEADER_BYTES;
  const load = async (offset: number, bytes: number): Promise<boolean> => {
    if (offset + bytes <= chunkAt + chunk.length) return true;
    chunk = Buffer.allocUnsafeSlow(Math.min(Math.max(CHUNK_BYTES, bytes), limit - offset));
    chunk = chunk.subarray(0, await file.read(chunk, offset));
    chunkAt = offset;
    return chunk.length >= bytes;
  };
  let entries = 0;
  let offset = HEADER_BYTES;
  while (offset < limit) {
    const end = { bytes: offset, entries };
    if (!(await load(offset, ENTRY_HEAD_BYTES))) return { ...end, reason: 'the file ends inside an entry' };
    const length = entryLength(chunk, offset - chunkAt);
    if (length === undefined) return { ...end, reason: 'an entry has an impossible length' };
    if (!(await load(offset, length))) return { ...end, reason: 'the file ends inside an entry' };
    const start = offset - chunkAt;
    const entry = openEntry(chunk.subarray(start, start + length), kind, { segment, offset });
    if (!entry) return { ...end, reason: 'the checksum of an entry does not match' };
    const visited = visit(entry);
    if (visited) await visited;
    offset += length;
    entries += 1;
  }
  return { bytes: Math.min(offset, limit), entries };
}

/** Reads single entries by position, with few files open. Sees whatever has been written, from any thread. */
export class SegmentReader {
  readonly #folder: string;
  readonly #kind: SegmentKind;
  readonly #disk: Disk;
  readonly #filesMax: number;
  /** Least recently used first. */
  readonly #files = new Map<number, SyncFile>();

  constructor(folder: string, kind: SegmentKind, disk: Disk, filesMax = 32) {
    this.#folder = folder;
    this.#kind = kind;
    this.#disk = disk;
    this.#filesMax = filesMax;
  }

  /** Throws AppError `storage` when the segment is gone or the bytes are damaged. */
  read(position: FramePosition): RawEntry {
    try {
      const file = this.#file(position.segment);
      const head = Buffer.allocUnsafe(ENTRY_HEAD_BYTES);
      const length = file.read(head, position.offset) === head.length ? entryLength(head, 0) : undefined;
      if (length === undefined) throw new Error('there is no entry');
      const bytes = Buffer.allocUnsafeSlow(length);
      const entry = file.read(bytes, position.offset) === length ? openEntry(bytes, this.#kind, position) : undefined;
      if (!entry) throw new Error('the entry is damaged');
      return entry;
    } catch (error) {
      if (error instanceof AppError) throw error;
      const place = `${segmentFileName(this.#kind, position.segment)} at ${position.offset}`;
      throw new AppError('storage', `cannot read ${this.#kind.words} ${place}: ${describeError(error)}`, {
        cause: error,
      });
    }
  }

  /** Closes the file of a dropped segment. */
  forget(segment: number): void {
    this.#files.get(segment)?.close();
    this.#files.delete(segment);
  }

  close(): void {
    for (const segment of [...this.#files.keys()]) this.forget(segment);
  }

  #file(segment: number): SyncFile {
    const known = this.#files.get(segment);
    const file = known ?? this.#disk.openSync(join(this.#folder, segmentFileName(this.#kind, segment)));
    this.#files.delete(segment);
    this.#files.set(segment, file);
    for (const oldest of this.#files.keys()) {
      if (this.#files.size <= this.#filesMax) break;
      this.forget(oldest);
    }
    return file;
  }
}
