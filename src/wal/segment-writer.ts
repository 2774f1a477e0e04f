import { crc32 } from 'node:zlib';
import { assert } from '../core/assert.ts';
import type { DiskFile } from './disk.ts';
import type { PieceEncoder } from './piece-encoder.ts';
import { addPiece, type Block, encodeIndex, encodePieceHead, type Piece } from './segment-blocks.ts';
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

/** Compresses them and writes them at `at`, the end of the file; returns how many bytes they have there. */
export async function writePiece(
  { file, segment, blocks }: Active,
  at: number,
  { buffers, bytes: rawBytes, entries, firstNs, lastNs }: Append,
  encoder: PieceEncoder | undefined,
): Promise<number> {
  assert(encoder !== undefined, 'a compressed segment was begun with an encoder');
  const { compressed, goesOn } = await encoder.encode(buffers, rawBytes);
  const piece: Piece = {
    compressedBytes: compressed.length,
    rawBytes,
    rawOffset: segment.bytes,
    entries,
    goesOn,
    firstNs,
    lastNs,
    checksum: crc32(compressed),
  };
  const head = encodePieceHead(piece);
  await file.write([head, compressed], at);
  addPiece(blocks, piece, at);
  return head.length + compressed.length;
}

/** What one write makes durable. */
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
