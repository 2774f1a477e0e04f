import { crc32 } from 'node:zlib';
import { assert } from '../core/assert.ts';
import { AppError } from '../core/errors.ts';

/**
 * The files of the write-ahead log and of the settle journal. All numbers are little-endian.
 *
 * | header, 32 bytes | at | bytes |
 * |---|---|---|
 * | magic: `SPANTWAL` or `SPANTJNL` | 0 | 8 |
 * | format version | 8 | 4 |
 * | segment number | 12 | 4 |
 * | created, epoch nanoseconds | 16 | 8 |
 * | zero | 24 | 4 |
 * | CRC32 of the 28 bytes before | 28 | 4 |
 *
 * | then entries | at | bytes |
 * |---|---|---|
 * | length of what follows the checksum | 0 | 4 |
 * | CRC32 of what follows | 4 | 4 |
 * | entry version | 8 | 1 |
 * | kind (of a WAL frame: its signal) | 9 | 1 |
 * | time, epoch nanoseconds | 10 | 8 |
 * | body (frame.ts, settle-journal.ts) | 18 | length - 10 |
 *
 * Every later version keeps the header's layout and the first nine bytes of an entry, so that an older program can say
 * what it met. A segment of the write-ahead log may be compressed (`….walz`): the header, then its entries in the pieces that
 * segment-blocks.ts describes.
 *
 * Order of the steps, each after the one before has succeeded:
 * 1. new segment: create the file, write its header, fdatasync it (which covers its length), fsync the folder;
 * 2. batch: one writev at the end of the segment, one fdatasync, then tell the listeners, then acknowledge; in a compressed
 *    segment it is one piece;
 * 3. failed batch: reject it, cut the segment back to its last acknowledged byte and never append to it again (after a
 *    failed fsync the kernel may have dropped the bytes it could not write); a segment without any entry is removed; until
 *    that is done nothing else is appended;
 * 4. drop: unlink, fsync the folder; before the newest segment goes, its successor is there (step 1), so that numbers are
 *    never used twice;
 * 5. end of a compressed segment, by a successor, a failed batch (after step 3) or a close: write the index behind the last
 *    piece, fdatasync it; until that is done nothing else is appended. An open does it for the newest segment, after it has cut
 *    off a torn tail; without an index a segment is read piece by piece.
 * A program that wrote raw segments compressed them later: it wrote `…walz.tmp`, renamed it to `…walz` and removed the raw file. An
 * open after a crash in between removes the temporary file; where both files are there it keeps the compressed one if every
 * block of it can be read, else the raw one.
 * A segment of an earlier run is never appended to, so a position means the same bytes for ever.
 */
export const HEADER_BYTES = 32;
export const ENTRY_HEAD_BYTES = 18;

/** Length and checksum: what the entry's length does not count. */
const ENTRY_FRAMING_BYTES = 8;

/** Positions fit one exact number, segment * 2^32 + offset (128 TiB of full segments). */
export const SEGMENT_MAX = 2 ** 21 - 1;

/** Where an entry starts. Both u32; ordered by segment, then offset. */
export interface FramePosition {
  readonly segment: number;
  readonly offset: number;
}

/** One exact number for a position, in the order of positions: a key for maps and typed arrays. */
export function positionKey(position: FramePosition): number {
  return position.segment * 2 ** 32 + position.offset;
}

/** Negative when a is older than b, 0 when they are the same place. */
export function comparePositions(a: FramePosition, b: FramePosition): number {
  return a.segment - b.segment || a.offset - b.offset;
}

/** What sets one kind of segment files apart from the other. */
export interface SegmentKind {
  readonly magic: string;
  readonly suffix: string;
  /** For messages. */
  readonly words: string;
  /** Newest format version that this program reads, of the header and of entries; what it writes headers with. */
  readonly version: number;
  /** The kind of file that a compressed segment is; absent when none of this kind ever is. */
  readonly compressed?: SegmentKind;
}

export const WAL_KIND: SegmentKind = {
  magic: 'SPANTWAL',
  suffix: '.wal',
  words: 'write-ahead log',
  version: 1,
  compressed: { magic: 'SPANTWLZ', suffix: '.walz', words: 'compressed write-ahead log', version: 2 },
};
export const JOURNAL_KIND: SegmentKind = { magic: 'SPANTJNL', suffix: '.journal', words: 'settle journal', version: 2 };

export function segmentFileName(kind: SegmentKind, segment: number): string {
  return String(segment).padStart(10, '0') + kind.suffix;
}

/** What takes the place of a file writes under this name until it is whole. */
export const UNFINISHED_SUFFIX = '.tmp';
/** What a repair has taken out of the log. */
export const DAMAGED_SUFFIX = '.damaged';

/** The segment number of a file name, or undefined for a file that is not ours. */
export function parseSegmentFileName(kind: SegmentKind, name: string): number | undefined {
  const segment = Number(name.slice(0, -kind.suffix.length));
  return segment >= 1 && segment <= SEGMENT_MAX && segmentFileName(kind, segment) === name ? segment : undefined;
}

export function encodeHeader(kind: SegmentKind, segment: number, createdNs: bigint): Buffer {
  assert(segment >= 1 && segment <= SEGMENT_MAX, 'segment number is in range');
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(kind.magic, 0, 'latin1');
  header.writeUInt32LE(kind.version, 8);
  header.writeUInt32LE(segment, 12);
  header.writeBigUInt64LE(createdNs, 16);
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28);
  return header;
}

/**
 * The creation time, or why the header cannot be believed; foreign when it is whole and of another kind of file, whose
 * entries are not what they seem. Throws when a newer program wrote it.
 */
export function parseHeader(
  header: Buffer,
  kind: SegmentKind,
  segment: number,
): { ok: true; createdNs: bigint } | { ok: false; isForeign: boolean; reason: string } {
  const not = (reason: string, isForeign = false) => ({ ok: false as const, isForeign, reason });
  if (header.length < HEADER_BYTES) return not('the file is shorter than its header');
  if (crc32(header.subarray(0, 28)) !== header.readUInt32LE(28)) return not('the header is damaged');
  if (header.toString('latin1', 0, 8) !== kind.magic) return not(`the file is no ${kind.words}`, true);
  refuseNewer(header.readUInt32LE(8), kind, segment);
  if (header.readUInt32LE(12) !== segment) return not('the header names another segment');
  return { ok: true, createdNs: header.readBigUInt64LE(16) };
}

function refuseNewer(version: number, kind: SegmentKind, segment: number): void {
  if (version <= kind.version) return;
  const name = segmentFileName(kind, segment);
  throw new AppError(
    'storage',
    `${kind.words} segment ${name} has format version ${version}, this program reads up to ${kind.version}: run the newer Spantrail that wrote it`,
  );
}

/** The time of the entry that was sealed last: those of a batch share it. */
let sealedNs = 0n;
const sealedTime = Buffer.alloc(8);

/** Fills in the head of an entry; `entry` starts with room for it, `rest` follows `entry` on disk. */
export function sealEntry(entry: Buffer, kind: number, timeNs: bigint, rest?: Uint8Array, version = 1): void {
  const bytes = entry.length + (rest?.length ?? 0);
  if (timeNs !== sealedNs) {
    sealedTime.writeBigUInt64LE(BigInt.asUintN(64, timeNs));
    sealedNs = timeNs;
  }
  entry.writeUInt32LE(bytes - ENTRY_FRAMING_BYTES, 0);
  entry[8] = version;
  entry[9] = kind;
  entry.set(sealedTime, 10);
  const checksum = crc32(entry.subarray(ENTRY_FRAMING_BYTES));
  entry.writeUInt32LE(rest ? crc32(rest, checksum) : checksum, 4);
}

/** An entry as it lies on disk. */
export interface RawEntry {
  readonly position: FramePosition;
  /** Bytes in the raw segment, head included. */
  readonly length: number;
  /** All of them. */
  readonly bytes: Buffer;
  readonly version: number;
  readonly kind: number;
  readonly timeNs: bigint;
  readonly body: Buffer;
}

/** Bytes on disk of the entry whose head is at `at`; undefined when that cannot be an entry's length. */
export function entryLength(bytes: Buffer, at: number): number | undefined {
  const length = bytes.readUInt32LE(at) + ENTRY_FRAMING_BYTES;
  return length < ENTRY_HEAD_BYTES ? undefined : length;
}

/** Opens a whole entry; undefined when its checksum does not match. Throws when a newer program wrote it. */
export function openEntry(entry: Buffer, kind: SegmentKind, position: FramePosition): RawEntry | undefined {
  if (crc32(entry.subarray(ENTRY_FRAMING_BYTES)) !== entry.readUInt32LE(4)) return undefined;
  refuseNewer(entry.readUInt8(8), kind, position.segment);
  return {
    position,
    length: entry.length,
    bytes: entry,
    version: entry.readUInt8(8),
    kind: entry.readUInt8(9),
    timeNs: entry.readBigUInt64LE(10),
    body: entry.subarray(ENTRY_HEAD_BYTES),
  };
}
