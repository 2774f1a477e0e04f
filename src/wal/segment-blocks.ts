import { promisify } from 'node:util';
import { constants, crc32, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import type { SyncFile } from './disk.ts';
import { HEADER_BYTES } from './segment-format.ts';

/**
 * The inside of a compressed segment, after the header that all segments have (segment-format.ts, magic `SPANTWLZ`). All
 * numbers are little-endian. A raw offset is a place in the segment before it was compressed: positions of entries stay
 * what they were.
 *
 * | block: whole entries, one after the other | at | bytes |
 * |---|---|---|
 * | length of the compressed bytes | 0 | 4 |
 * | length before compression | 4 | 4 |
 * | raw offset of the first entry | 8 | 4 |
 * | entries | 12 | 4 |
 * | smallest and largest time of an entry, epoch nanoseconds | 16 | 16 |
 * | CRC32 of the compressed bytes | 32 | 4 |
 * | CRC32 of the 36 bytes before | 36 | 4 |
 * | compressed bytes (one zstd frame) | 40 | as said |
 *
 * | index, after the last block | at | bytes |
 * |---|---|---|
 * | of each block its head again and where it starts in the file | 44 × n | 44 |
 * | number of blocks | 0 | 4 |
 * | where the index starts in the file | 4 | 4 |
 * | length of the raw segment | 8 | 4 |
 * | CRC32 of the blocks' entries | 12 | 4 |
 * | CRC32 of the 16 bytes before | 16 | 4 |
 * | `SWLZ` | 20 | 4 |
 *
 * The heads stand twice so that neither a damaged block nor a damaged or missing index costs the other blocks.
 */
export interface Block {
  /** Where its head starts in the file. */
  readonly at: number;
  readonly compressedBytes: number;
  readonly rawBytes: number;
  readonly rawOffset: number;
  readonly entries: number;
  readonly firstNs: bigint;
  readonly lastNs: bigint;
  readonly checksum: number;
}

/**
 * Blocks of about this size compress nearly as well as a whole segment, and one late look costs a fraction of a millisecond. Smaller
 * ones cost more: each is a turn of the thread pool, and the compressor learns what spans look like anew in each.
 */
export const BLOCK_RAW_BYTES = 1024 * 1024;
export const BLOCK_HEAD_BYTES = 40;
const INDEX_ENTRY_BYTES = 44;
const TAIL_BYTES = 24;
const TAIL_MAGIC = 'SWLZ';

/** Higher levels leave as many bytes of the ids and times that are most of what is left, and cost more: see ARCHITECTURE.md. */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 1 };
/** More than a block can become (ZSTD_COMPRESSBOUND): zstd then works on the bytes themselves, without a copy of them. */
const BOUND_SHARE = 128;
const BOUND_MORE_BYTES = 1024;
const decompressAsync = promisify(zstdDecompress);

/** Without waiting: whoever compresses much has a thread of its own (compaction-thread.ts). */
export function compressBlock(raw: Buffer): Buffer<ArrayBuffer> {
  const chunkSize = raw.length + Math.ceil(raw.length / BOUND_SHARE) + BOUND_MORE_BYTES;
  return zstdCompressSync(raw, { params: PARAMS, pledgedSrcSize: raw.length, chunkSize });
}

function sizes(rawBytes: number) {
  return { maxOutputLength: rawBytes, chunkSize: Math.max(rawBytes, constants.Z_MIN_CHUNK) };
}

/** The compressed bytes after a check, or why they cannot be believed. */
function checked(bytes: Buffer, block: Block): { ok: true } | { ok: false; reason: string } {
  if (bytes.length < block.compressedBytes) return { ok: false, reason: 'the file ends inside a block' };
  if (crc32(bytes) !== block.checksum) return { ok: false, reason: 'the checksum of a block does not match' };
  return { ok: true };
}

/** The entries of a block as they were; throws an Error whose message says what is wrong with it. */
export async function openBlock(bytes: Buffer, block: Block): Promise<Buffer> {
  const check = checked(bytes, block);
  if (!check.ok) throw new Error(check.reason);
  return ofLength(await decompressAsync(bytes, sizes(block.rawBytes)), block.rawBytes);
}

/** The same without waiting. */
export function openBlockSync(bytes: Buffer, block: Block): Buffer {
  const check = checked(bytes, block);
  if (!check.ok) throw new Error(check.reason);
  return decompressBlock(bytes, block.rawBytes);
}

/** The same of bytes that were just made or checked. */
export function decompressBlock(bytes: Buffer, rawBytes: number): Buffer<ArrayBuffer> {
  return ofLength(zstdDecompressSync(bytes, sizes(rawBytes)), rawBytes);
}

function ofLength<Bytes extends Buffer>(raw: Bytes, rawBytes: number): Bytes {
  if (raw.length !== rawBytes) throw new Error('a block has another length than it says');
  return raw;
}

export function encodeBlockHead(block: Omit<Block, 'at'>): Buffer {
  const head = Buffer.alloc(BLOCK_HEAD_BYTES);
  head.writeUInt32LE(block.compressedBytes, 0);
  head.writeUInt32LE(block.rawBytes, 4);
  head.writeUInt32LE(block.rawOffset, 8);
  head.writeUInt32LE(block.entries, 12);
  head.writeBigUInt64LE(block.firstNs, 16);
  head.writeBigUInt64LE(block.lastNs, 24);
  head.writeUInt32LE(block.checksum, 32);
  head.writeUInt32LE(crc32(head.subarray(0, 36)), 36);
  return head;
}

/** Undefined when the head is damaged. */
function parseBlockHead(head: Buffer, at: number): Block | undefined {
  if (crc32(head.subarray(0, 36)) !== head.readUInt32LE(36)) return undefined;
  return {
    at,
    compressedBytes: head.readUInt32LE(0),
    rawBytes: head.readUInt32LE(4),
    rawOffset: head.readUInt32LE(8),
    entries: head.readUInt32LE(12),
    firstNs: head.readBigUInt64LE(16),
    lastNs: head.readBigUInt64LE(24),
    checksum: head.readUInt32LE(32),
  };
}

/** Length of an index with its tail. */
export function indexBytes(blocks: number): number {
  return blocks * INDEX_ENTRY_BYTES + TAIL_BYTES;
}

export function encodeIndex(blocks: readonly Block[], at: number, rawEnd: number): Buffer {
  const index = Buffer.alloc(indexBytes(blocks.length));
  for (const [number, block] of blocks.entries()) {
    encodeBlockHead(block).copy(index, number * INDEX_ENTRY_BYTES);
    index.writeUInt32LE(block.at, number * INDEX_ENTRY_BYTES + BLOCK_HEAD_BYTES);
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
  /** Length of the raw segment, as far as is known. */
  readonly rawEnd: number;
  /** The index is not to be believed: the blocks up to the first damage were found one after the other. */
  readonly damage?: { readonly at: number; readonly reason: string };
}

/** Where the blocks are. Reads the index only, or when that is damaged the blocks' heads. */
export function readBlockIndex(file: SyncFile): BlockIndex {
  const size = file.size();
  const tail = Buffer.alloc(TAIL_BYTES);
  const isTail =
    size >= HEADER_BYTES + TAIL_BYTES &&
    file.read(tail, size - TAIL_BYTES) === TAIL_BYTES &&
    tail.toString('latin1', 20) === TAIL_MAGIC &&
    crc32(tail.subarray(0, 16)) === tail.readUInt32LE(16);
  if (!isTail) return walkBlocks(file, size, 'the file does not end with an index');
  const at = tail.readUInt32LE(4);
  const bytes = tail.readUInt32LE(0) * INDEX_ENTRY_BYTES;
  if (at + bytes + TAIL_BYTES !== size) return walkBlocks(file, size, 'the index says another length');
  const index = Buffer.alloc(bytes);
  file.read(index, at);
  if (crc32(index) !== tail.readUInt32LE(12)) return walkBlocks(file, size, 'the index is damaged');
  const blocks: Block[] = [];
  for (let offset = 0; offset < bytes; offset += INDEX_ENTRY_BYTES) {
    const head = index.subarray(offset, offset + BLOCK_HEAD_BYTES);
    const block = parseBlockHead(head, index.readUInt32LE(offset + BLOCK_HEAD_BYTES));
    if (block) blocks.push(block);
  }
  return { blocks, rawEnd: tail.readUInt32LE(8) };
}

function walkBlocks(file: SyncFile, size: number, reason: string): BlockIndex {
  const blocks: Block[] = [];
  const head = Buffer.alloc(BLOCK_HEAD_BYTES);
  let at = HEADER_BYTES;
  while (file.read(head, at) === BLOCK_HEAD_BYTES) {
    const block = parseBlockHead(head, at);
    if (!block || at + BLOCK_HEAD_BYTES + block.compressedBytes > size) break;
    blocks.push(block);
    at += BLOCK_HEAD_BYTES + block.compressedBytes;
  }
  const last = blocks.at(-1);
  return { blocks, rawEnd: last ? last.rawOffset + last.rawBytes : HEADER_BYTES, damage: { at, reason } };
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
