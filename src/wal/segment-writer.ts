import { crc32 } from 'node:zlib';
import { assert } from '../core/assert.ts';
import type { DiskFile } from './disk.ts';
import type { PieceEncoder } from './piece-encoder.ts';
import {
  addPiece,
  BLOCK_RAW_BYTES,
  type Block,
  encodeIndex,
  encodePieceHead,
  PIECE_HEAD_BYTES,
  type Piece,
} from './segment-blocks.ts';
import type { Segment } from './segment-files.ts';
import type { FramePosition } from './segment-format.ts';

/** Entries that are written together: whole entries (see sealEntry), one after the other, in one segment. */
export interface Append {
  readonly entries: number;
  readonly buffers: readonly Buffer[];
  readonly bytes: number;
  readonly firstNs: bigint;
  readonly lastNs: bigint;
  /** Called in append order right after the fsync, before the append resolves. Must be cheap and must not throw. */
  readonly durable?: (position: FramePosition) => void;
}

/** The segment that is appended to. */
export interface Active {
  readonly file: DiskFile;
  readonly segment: Segment;
  /** Of a compressed segment. */
  readonly blocks: Block[];
}

/** A segment that is not appended to any more and not whole yet. */
export interface Ending extends Active {
  /** May have bytes behind its end that nobody was told of. */
  isFailed: boolean;
}

/** Cuts off what is not acknowledged and writes the index that is missing. */
export async function endSegment(ending: Ending): Promise<void> {
  const { file, segment, blocks, isFailed } = ending;
  if (isFailed) {
    await file.truncate(segment.compressedBytes ?? segment.bytes);
    await file.fdatasync();
  }
  if (segment.compressedBytes === undefined) return;
  // Should it fail half way, its beginning is cut off before the next try.
  ending.isFailed = true;
  const index = encodeIndex(blocks, segment.compressedBytes, segment.bytes);
  await file.write([index], segment.compressedBytes);
  await file.fdatasync();
  segment.compressedBytes += index.length;
}

/** A piece and where it starts in the file. */
interface PieceAt {
  readonly piece: Piece;
  readonly at: number;
}

/**
 * Compresses a batch and writes it at `at`, the end of the file, with one write. A large one is several pieces, so that no block
 * becomes much larger than BLOCK_RAW_BYTES, whatever came at once: who wants one entry opens its whole block.
 */
export async function writePieces(
  { file, segment }: Active,
  at: number,
  appends: readonly Append[],
  encoder: PieceEncoder | undefined,
): Promise<readonly PieceAt[]> {
  assert(encoder !== undefined, 'a compressed segment was begun with an encoder');
  const pieces: PieceAt[] = [];
  const buffers: Buffer[] = [];
  let [end, rawOffset] = [at, segment.bytes];
  for (const part of partsOf(appends)) {
    const { entries, bytes: rawBytes, firstNs, lastNs } = part;
    const { compressed, goesOn } = await encoder.encode(part.buffers, rawBytes);
    const [compressedBytes, checksum] = [compressed.length, crc32(compressed)];
    const piece = { compressedBytes, rawBytes, rawOffset, entries, goesOn, firstNs, lastNs, checksum };
    pieces.push({ piece, at: end });
    buffers.push(encodePieceHead(piece), compressed);
    end += PIECE_HEAD_BYTES + compressedBytes;
    rawOffset += rawBytes;
  }
  await file.write(buffers, at);
  return pieces;
}

/** What was written is durable: the index will say where it is. */
export function keepPieces({ segment, blocks }: Active, pieces: readonly PieceAt[]): void {
  for (const { piece, at } of pieces) {
    addPiece(blocks, piece, at);
    segment.compressedBytes = at + PIECE_HEAD_BYTES + piece.compressedBytes;
  }
}

function* partsOf(appends: readonly Append[]): Generator<Append> {
  let [from, bytes] = [0, 0];
  for (const [index, append] of appends.entries()) {
    if (index > from && bytes + append.bytes > BLOCK_RAW_BYTES) {
      yield together(appends.slice(from, index));
      [from, bytes] = [index, 0];
    }
    bytes += append.bytes;
  }
  yield together(appends.slice(from));
}

/** What is made durable together. */
export function together(appends: readonly Append[]): Append {
  const [first, ...more] = appends;
  assert(first !== undefined, 'a batch has at least one append');
  if (more.length === 0) return first;
  let { entries, bytes, firstNs, lastNs } = first;
  const buffers = [...first.buffers];
  for (const append of more) {
    for (const buffer of append.buffers) buffers.push(buffer);
    entries += append.entries;
    bytes += append.bytes;
    if (append.firstNs < firstNs) firstNs = append.firstNs;
    if (append.lastNs > lastNs) lastNs = append.lastNs;
  }
  return { entries, buffers, bytes, firstNs, lastNs };
}
