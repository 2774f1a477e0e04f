import { describeError } from '../core/errors.ts';
import type { DiskFile } from './disk.ts';
import {
  BLOCK_HEAD_BYTES,
  type Block,
  type BlockIndex,
  encodeBlockHead,
  indexBytes,
  openBlock,
} from './segment-blocks.ts';
import {
  ENTRY_HEAD_BYTES,
  entryLength,
  HEADER_BYTES,
  openEntry,
  type RawEntry,
  type SegmentKind,
} from './segment-format.ts';
import type { Damage, ScanEnd } from './segment-reader.ts';

/**
 * Visits the entries of one compressed segment in order, from the raw offset `from` on. A damaged block costs its own entries
 * only. Bodies share the memory of their block; nothing is reused, so they may be kept.
 */
export async function scanCompressed(
  file: DiskFile,
  index: BlockIndex,
  kind: SegmentKind,
  segment: number,
  visit: (entry: RawEntry) => void | Promise<void>,
  from = HEADER_BYTES,
): Promise<ScanEnd> {
  const damage: Damage[] = [];
  let entries = 0;
  for await (const { block, raw, found } of readBlocks(file, index, from)) {
    if (found) damage.push(found);
    if (!raw) continue;
    let at = Math.max(0, from - block.rawOffset);
    while (at < raw.length) {
      const length = at + ENTRY_HEAD_BYTES <= raw.length ? entryLength(raw, at) : undefined;
      const end = at + (length ?? 0);
      const position = { segment, offset: block.rawOffset + at };
      const entry = length && end <= raw.length ? openEntry(raw.subarray(at, end), kind, position) : undefined;
      if (!entry) {
        damage.push(lostBlock(block, `an entry in a block is damaged, at ${position.offset} of the raw segment`));
        break;
      }
      const visited = visit(entry);
      if (visited) await visited;
      entries += 1;
      at = end;
    }
  }
  if (index.damage) damage.push(lostIndex(await file.size(), index.blocks, index.damage));
  return { bytes: index.rawEnd, entries, damage };
}

interface ReadBlock {
  readonly block: Block;
  /** Undefined when it is lost. */
  readonly raw?: Buffer;
  readonly found?: Damage;
}

/** The blocks from the raw offset on. While one is looked through the next one is read and decompressed. */
async function* readBlocks(file: DiskFile, { blocks }: BlockIndex, from: number): AsyncGenerator<ReadBlock> {
  let ahead: Promise<ReadBlock> | undefined;
  try {
    for (const block of blocks) {
      if (block.rawOffset + block.rawBytes <= from) continue;
      const read = ahead;
      ahead = readBlock(file, block);
      if (read) yield await read;
    }
    if (ahead) yield await ahead;
  } finally {
    await ahead;
  }
}

/** Also compares the block's head with its copy in the index: with one of them whole, nothing is lost. */
async function readBlock(file: DiskFile, block: Block): Promise<ReadBlock> {
  try {
    const bytes = Buffer.allocUnsafeSlow(BLOCK_HEAD_BYTES + block.compressedBytes);
    const got = await file.read(bytes, block.at);
    const raw = await openBlock(bytes.subarray(Math.min(BLOCK_HEAD_BYTES, got), got), block);
    if (bytes.subarray(0, BLOCK_HEAD_BYTES).equals(encodeBlockHead(block))) return { block, raw };
    const reason = 'the head of a block is damaged, its copy in the index is not';
    return { block, raw, found: { offset: block.at, bytes: 0, reason } };
  } catch (error) {
    return { block, found: lostBlock(block, describeError(error)) };
  }
}

function lostBlock(block: Block, reason: string): Damage {
  const { at: offset, compressedBytes, firstNs, lastNs, entries } = block;
  return {
    offset,
    bytes: BLOCK_HEAD_BYTES + compressedBytes,
    reason: `${reason} (${entries} entries)`,
    firstNs,
    lastNs,
  };
}

/** What follows the blocks that were found is the index alone when it has just its length. */
function lostIndex(size: number, blocks: readonly Block[], { at, reason }: { at: number; reason: string }): Damage {
  if (size - at === indexBytes(blocks.length))
    return { offset: at, bytes: 0, reason: `${reason}, all blocks are there` };
  const last = blocks.at(-1);
  const words = `${reason}: ${blocks.length} blocks were found, what followed them is lost`;
  return { offset: at, bytes: Math.max(0, size - at), reason: words, ...(last && { firstNs: last.lastNs }) };
}
