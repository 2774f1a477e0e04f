import { promisify } from 'node:util';
import { constants, crc32, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { describeError } from '../core/errors.ts';
import type { SyncFile } from './disk.ts';
import { HEADER_BYTES } from './segment-format.ts';

/**
 * The inside of a compressed segment, after the header that all segments have (segment-format.ts, magic `SPANTWLZ`). All
 * numbers are little-endian. A raw offset is a place in the segment as if it were not compressed: positions of entries are raw
 * offsets.
 *
 * | piece: entries of one batch, at most a block of them | at | bytes |
 * |---|---|---|
 * | length of the compressed bytes | 0 | 4 |
 * | length before compression | 4 | 4 |
 * | raw offset of the first entry | 8 | 4 |
 * | entries; highest bit: goes on with the block of the piece before | 12 | 4 |
 * | smallest and largest time of an entry, epoch nanoseconds | 16 | 16 |
 * | CRC32 of the compressed bytes | 32 | 4 |
 * | CRC32 of the 36 bytes before | 36 | 4 |
 * | compressed bytes | 40 | as said |
 *
 * A block is a piece and those that go on with it. Their compressed bytes, one after the other, are one zstd frame (RFC 8878) that was
 * flushed at the end of each piece: with those before it each can be decompressed as soon as it is written, and it costs hardly more bytes
 * than were all compressed at once. The last block of a segment may lack the frame's end.
 *
 * | index, after the last piece, once the segment is closed | at | bytes |
 * |---|---|---|
 * | of each block: bytes in the file, raw bytes, raw offset, entries | 36 × n | 16 |
 * | smallest and largest time, where it starts in the file | 36 × n + 16 | 20 |
 * | number of blocks | 0 | 4 |
 * | where the index starts in the file | 4 | 4 |
 * | raw offset of the segment's end | 8 | 4 |
 * | CRC32 of what is said of the blocks | 12 | 4 |
 * | CRC32 of the 16 bytes before | 16 | 4 |
 * | `SWL2` | 20 | 4 |
 *
 * Format version 1 had blocks of one piece, and in its index (`SWLZ`) their heads, each with where it starts.
 */
export interface Block {
  /** Where the head of its first piece starts in the file. */
  readonly at: number;
  /** In the file, heads included. */
  readonly bytes: number;
  readonly rawBytes: number;
  readonly rawOffset: number;
  readonly entries: number;
  readonly firstNs: bigint;
  readonly lastNs: bigint;
}

/** What the head of a piece says. */
export interface Piece extends Omit<Block, 'at' | 'bytes'> {
  readonly compressedBytes: number;
  readonly checksum: number;
  readonly goesOn: boolean;
}

/**
 * Blocks of about this size compress nearly as well as a whole segment, and one late look costs a fraction of a millisecond.
 */
export const BLOCK_RAW_BYTES = 1024 * 1024;
export const PIECE_HEAD_BYTES = 40;
const GOES_ON = 2 ** 31;
const INDEX_ENTRY_BYTES = 36;
const TAIL_BYTES = 24;
const TAIL_MAGIC = 'SWL2';
/** Of format version 1. */
const OLD_INDEX_ENTRY_BYTES = 44;
const OLD_TAIL_MAGIC = 'SWLZ';

const decompressAsync = promisify(zstdDecompress);

export function encodePieceHead(piece: Piece): Buffer {
  const head = Buffer.alloc(PIECE_HEAD_BYTES);
  head.writeUInt32LE(piece.compressedBytes, 0);
  head.writeUInt32LE(piece.rawBytes, 4);
  head.writeUInt32LE(piece.rawOffset, 8);
  head.writeUInt32LE(piece.entries + (piece.goesOn ? GOES_ON : 0), 12);
  head.writeBigUInt64LE(piece.firstNs, 16);
  head.writeBigUInt64LE(piece.lastNs, 24);
  head.writeUInt32LE(piece.checksum, 32);
  head.writeUInt32LE(crc32(head.subarray(0, 36)), 36);
  return head;
}

/** Undefined when the head is damaged, or these bytes are none. */
export function parsePieceHead(bytes: Buffer, at = 0): Piece | undefined {
  if (at + PIECE_HEAD_BYTES > bytes.length) return undefined;
  if (crc32(bytes.subarray(at, at + 36)) !== bytes.readUInt32LE(at + 36)) return undefined;
  const entries = bytes.readUInt32LE(at + 12);
  return {
    compressedBytes: bytes.readUInt32LE(at),
    rawBytes: bytes.readUInt32LE(at + 4),
    rawOffset: bytes.readUInt32LE(at + 8),
    entries: entries % GOES_ON,
    goesOn: entries >= GOES_ON,
    firstNs: bytes.readBigUInt64LE(at + 16),
    lastNs: bytes.readBigUInt64LE(at + 24),
    checksum: bytes.readUInt32LE(at + 32),
  };
}

/** Adds a piece, which starts at `at` in the file, to the last block or as a new one. */
export function addPiece(blocks: Block[], piece: Piece, at: number): void {
  const last = blocks.at(-1);
  const bytes = PIECE_HEAD_BYTES + piece.compressedBytes;
  if (!piece.goesOn || last === undefined) {
    const { rawBytes, rawOffset, entries, firstNs, lastNs } = piece;
    blocks.push({ at, bytes, rawBytes, rawOffset, entries, firstNs, lastNs });
    return;
  }
  blocks[blocks.length - 1] = {
    at: last.at,
    bytes: last.bytes + bytes,
    rawBytes: last.rawBytes + piece.rawBytes,
    rawOffset: last.rawOffset,
    entries: last.entries + piece.entries,
    firstNs: piece.firstNs < last.firstNs ? piece.firstNs : last.firstNs,
    lastNs: piece.lastNs > last.lastNs ? piece.lastNs : last.lastNs,
  };
}

/** The entries of a block as they were, up to the first piece that is damaged. */
export interface OpenBlock {
  readonly raw: Buffer;
  readonly entries: number;
  /** Bytes of the block in the file, heads included, that gave them. */
  readonly bytes: number;
  /** Why there is no more of it; absent when it is whole. */
  readonly reason?: string;
}

/** `bytes`: those of the block in the file, as many as there are. */
export async function openBlock(bytes: Buffer, block: Block): Promise<OpenBlock> {
  const found = piecesIn(bytes, block);
  if (found.rawBytes === 0) return nothing(found.reason);
  try {
    return opened(await decompressAsync(found.frame, decompressing(found.rawBytes)), found);
  } catch (error) {
    return nothing(describeError(error));
  }
}

/** The same without waiting. */
export function openBlockSync(bytes: Buffer, block: Block): OpenBlock {
  const found = piecesIn(bytes, block);
  if (found.rawBytes === 0) return nothing(found.reason);
  try {
    return opened(zstdDecompressSync(found.frame, decompressing(found.rawBytes)), found);
  } catch (error) {
    return nothing(describeError(error));
  }
}

/** A block of which nothing can be read. */
export function nothing(reason = 'the block is empty'): OpenBlock {
  return { raw: Buffer.alloc(0), entries: 0, bytes: 0, reason };
}

interface FoundPieces extends Omit<OpenBlock, 'raw'> {
  readonly frame: Buffer;
  readonly rawBytes: number;
}

function piecesIn(bytes: Buffer, block: Block): FoundPieces {
  const parts: Buffer[] = [];
  let [at, rawBytes, entries] = [0, 0, 0];
  let reason: string | undefined;
  while (at < block.bytes && reason === undefined) {
    const piece = parsePieceHead(bytes, at);
    const end = at + PIECE_HEAD_BYTES + (piece?.compressedBytes ?? 0);
    const compressed = bytes.subarray(at + PIECE_HEAD_BYTES, end);
    const isHere = piece !== undefined && piece.rawOffset === block.rawOffset + rawBytes && end <= block.bytes;
    if (at + PIECE_HEAD_BYTES > bytes.length || (isHere && end > bytes.length)) reason = 'the file ends inside a block';
    else if (!isHere) reason = 'the head of a piece is damaged';
    else if (crc32(compressed) !== piece.checksum) reason = 'the checksum of a piece does not match';
    else {
      parts.push(compressed);
      rawBytes += piece.rawBytes;
      entries += piece.entries;
      at = end;
    }
  }
  const [first = Buffer.alloc(0), ...more] = parts;
  return {
    frame: more.length === 0 ? first : Buffer.concat(parts),
    rawBytes,
    entries,
    bytes: at,
    ...(reason === undefined ? {} : { reason }),
  };
}

/** A frame may lack its end: what there is of it is wanted. */
function decompressing(rawBytes: number) {
  return {
    finishFlush: constants.ZSTD_e_flush,
    maxOutputLength: rawBytes,
    // A little more: an output that is full is looked at again, with as much memory again.
    chunkSize: rawBytes + constants.Z_MIN_CHUNK,
  };
}

function opened(raw: Buffer, { rawBytes, entries, bytes, reason }: FoundPieces): OpenBlock {
  if (raw.length !== rawBytes) throw new Error('a block has another length than it says');
  return { raw, entries, bytes, ...(reason === undefined ? {} : { reason }) };
}

/** Length of an index with its tail. */
export function indexBytes(blocks: number): number {
  return blocks * INDEX_ENTRY_BYTES + TAIL_BYTES;
}

export function encodeIndex(blocks: readonly Block[], at: number, rawEnd: number): Buffer {
  const index = Buffer.alloc(indexBytes(blocks.length));
  for (const [number, block] of blocks.entries()) {
    const entry = index.subarray(number * INDEX_ENTRY_BYTES);
    entry.writeUInt32LE(block.bytes, 0);
    entry.writeUInt32LE(block.rawBytes, 4);
    entry.writeUInt32LE(block.rawOffset, 8);
    entry.writeUInt32LE(block.entries, 12);
    entry.writeBigUInt64LE(block.firstNs, 16);
    entry.writeBigUInt64LE(block.lastNs, 24);
    entry.writeUInt32LE(block.at, 32);
  }
  const tail = index.subarray(blocks.length * INDEX_ENTRY_BYTES);
  tail.writeUInt32LE(blocks.length, 0);
  tail.writeUInt32LE(at, 4);
  tail.writeUInt32LE(rawEnd, 8);
  tail.writeUInt32LE(crc32(index.subarray(0, blocks.length * INDEX_ENTRY_BYTES)), 12);
  tail.writeUInt32LE(crc32(tail.subarray(0, 16)), 16);
  tail.write(TAIL_MAGIC, 20, 'latin1');
  return index;
}

export interface BlockIndex {
  /** In the order of their raw offsets. */
  readonly blocks: readonly Block[];
  /** Raw offset of the segment's end, as far as is known. */
  readonly rawEnd: number;
  /** Where in the file the pieces end that are known. */
  readonly end: number;
  /** The file ends with an index: nothing comes after it. */
  readonly isClosed: boolean;
  /** What stands behind the pieces that were found is none, nor an index that can be believed. */
  readonly damage?: { readonly at: number; readonly reason: string };
}

/** Where the blocks are, by the index or, where there is none, by the heads of the pieces up to `limit`, bytes of the file. */
export function readBlockIndex(file: SyncFile, limit = file.size()): BlockIndex {
  const size = Math.min(file.size(), limit);
  const tail = Buffer.alloc(TAIL_BYTES);
  const isTail =
    size >= HEADER_BYTES + TAIL_BYTES &&
    file.read(tail, size - TAIL_BYTES) === TAIL_BYTES &&
    crc32(tail.subarray(0, 16)) === tail.readUInt32LE(16);
  const magic = tail.toString('latin1', 20);
  if (!isTail || (magic !== TAIL_MAGIC && magic !== OLD_TAIL_MAGIC)) return walkPieces(file, size);
  const at = tail.readUInt32LE(4);
  const isOld = magic === OLD_TAIL_MAGIC;
  const bytes = tail.readUInt32LE(0) * (isOld ? OLD_INDEX_ENTRY_BYTES : INDEX_ENTRY_BYTES);
  if (at + bytes + TAIL_BYTES !== size) return walkPieces(file, size, 'the index says another length');
  const index = Buffer.alloc(bytes);
  file.read(index, at);
  if (crc32(index) !== tail.readUInt32LE(12)) return walkPieces(file, size, 'the index is damaged');
  const blocks = isOld ? oldIndexEntries(index) : indexEntries(index);
  return { blocks, rawEnd: tail.readUInt32LE(8), end: at, isClosed: true };
}

function indexEntries(index: Buffer): Block[] {
  const blocks: Block[] = [];
  for (let at = 0; at < index.length; at += INDEX_ENTRY_BYTES) {
    blocks.push({
      bytes: index.readUInt32LE(at),
      rawBytes: index.readUInt32LE(at + 4),
      rawOffset: index.readUInt32LE(at + 8),
      entries: index.readUInt32LE(at + 12),
      firstNs: index.readBigUInt64LE(at + 16),
      lastNs: index.readBigUInt64LE(at + 24),
      at: index.readUInt32LE(at + 32),
    });
  }
  return blocks;
}

function oldIndexEntries(index: Buffer): Block[] {
  const blocks: Block[] = [];
  for (let at = 0; at < index.length; at += OLD_INDEX_ENTRY_BYTES) {
    const piece = parsePieceHead(index, at);
    if (piece) addPiece(blocks, piece, index.readUInt32LE(at + PIECE_HEAD_BYTES));
  }
  return blocks;
}

/** `why`: what is wrong with the index; absent where none is to be seen. */
function walkPieces(file: SyncFile, size: number, why?: string): BlockIndex {
  const walked = readOn(file, { blocks: [], rawEnd: HEADER_BYTES, end: HEADER_BYTES, isClosed: false }, size);
  if (walked.end >= size) return walked;
  return { ...walked, damage: { at: walked.end, reason: why ?? 'what follows the last piece is none' } };
}

/** What was appended since the index of an open segment was read, up to `limit`, bytes of the file. */
export function readOn(file: SyncFile, index: BlockIndex, limit = file.size()): BlockIndex {
  const blocks = [...index.blocks];
  const head = Buffer.alloc(PIECE_HEAD_BYTES);
  let { end, rawEnd } = index;
  while (end + PIECE_HEAD_BYTES <= limit && file.read(head, end) === PIECE_HEAD_BYTES) {
    const piece = parsePieceHead(head);
    if (!piece || piece.rawOffset < rawEnd || end + PIECE_HEAD_BYTES + piece.compressedBytes > limit) break;
    addPiece(blocks, piece, end);
    end += PIECE_HEAD_BYTES + piece.compressedBytes;
    rawEnd = piece.rawOffset + piece.rawBytes;
  }
  return { blocks, rawEnd, end, isClosed: false };
}

/** The block that holds the raw offset, by halving; undefined when none does. */
export function findBlock(blocks: readonly Block[], rawOffset: number): Block | undefined {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const block = blocks[middle];
    if (block && block.rawOffset <= rawOffset) low = middle + 1;
    else high = middle;
  }
  const block = blocks[low - 1];
  return block && rawOffset < block.rawOffset + block.rawBytes ? block : undefined;
}

/** Is there a whole piece anywhere in these bytes, after their first? Then they are no torn tail (see find-entry.ts). */
export function holdsWholePiece(bytes: Buffer): boolean {
  for (let at = 1; at + PIECE_HEAD_BYTES <= bytes.length; at++) {
    // Looked at first, for a checksum at each byte would take long.
    const compressedBytes = bytes.readUInt32LE(at);
    const start = at + PIECE_HEAD_BYTES;
    if (compressedBytes === 0 || start + compressedBytes > bytes.length) continue;
    const piece = parsePieceHead(bytes, at);
    if (piece && crc32(bytes.subarray(start, start + compressedBytes)) === piece.checksum) return true;
  }
  return false;
}
