import { describeError } from '../core/errors.ts';
import type { DiskFile } from './disk.ts';
import { letGo } from './let-go.ts';
import { type Block, type BlockIndex, indexBytes, nothing, type OpenBlock, openBlock } from './segment-blocks.ts';
import { ENTRY_HEAD_BYTES, entryLength, openEntry, type RawEntry, type SegmentKind } from './segment-format.ts';
import type { Damage, ScanEnd } from './segment-reader.ts';

/**
 * Visits the entries of one compressed segment in order. A damaged piece costs its own entries and those behind it in its
 * block. Bodies share the memory of their block, and may be kept unless `isReused`.
 */
export async function scanCompressed(
  file: DiskFile,
  index: BlockIndex,
  kind: SegmentKind,
  segment: number,
  visit: (entry: RawEntry) => void | Promise<void>,
  isReused = false,
): Promise<ScanEnd> {
  const damage: Damage[] = [];
  let entries = 0;
  for await (const { block, open } of readBlocks(file, index)) {
    const { raw } = open;
    const before = entries;
    let at = 0;
    let reason = open.reason;
    while (at < raw.length) {
      const length = at + ENTRY_HEAD_BYTES <= raw.length ? entryLength(raw, at) : undefined;
      const end = at + (length ?? 0);
      const position = { segment, offset: block.rawOffset + at };
      const entry = length && end <= raw.length ? openEntry(raw.subarray(at, end), kind, position) : undefined;
      if (!entry) {
        reason = `an entry in a block is damaged, at ${position.offset} of the raw segment`;
        break;
      }
      const visited = visit(entry);
      if (visited) await visited;
      entries += 1;
      at = end;
    }
    if (isReused) letGo(raw);
    if (reason !== undefined) damage.push(lostRest(block, open, reason, block.entries - (entries - before)));
  }
  if (index.damage) damage.push(lostEnd(await file.size(), index, index.damage));
  return { bytes: index.rawEnd, entries, damage };
}

interface ReadBlock {
  readonly block: Block;
  readonly open: OpenBlock;
}

/** While one is looked through, which leaves no turn for anything else, those after it are read and decompressed. */
const BLOCKS_AHEAD = 4;

async function* readBlocks(file: DiskFile, { blocks }: BlockIndex): AsyncGenerator<ReadBlock> {
  const ahead: Promise<ReadBlock>[] = [];
  let next = 0;
  const begin = () => {
    const block = blocks[next++];
    if (block) ahead.push(readBlock(file, block));
  };
  try {
    while (ahead.length < BLOCKS_AHEAD && next < blocks.length) begin();
    for (let read = ahead.shift(); read !== undefined; read = ahead.shift()) {
      begin();
      yield await read;
    }
  } finally {
    await Promise.all(ahead);
  }
}

async function readBlock(file: DiskFile, block: Block): Promise<ReadBlock> {
  try {
    const bytes = Buffer.allocUnsafeSlow(block.bytes);
    const got = await file.read(bytes, block.at);
    const open = await openBlock(bytes.subarray(0, got), block);
    letGo(bytes);
    return { block, open };
  } catch (error) {
    return { block, open: nothing(describeError(error)) };
  }
}

function lostRest(block: Block, open: OpenBlock, reason: string, entries: number): Damage {
  // Where an entry is damaged though its piece is not, nothing tells which bytes of the file it is.
  const lostFrom = open.reason === undefined ? 0 : open.bytes;
  const { at, bytes, firstNs, lastNs } = block;
  return { offset: at + lostFrom, bytes: bytes - lostFrom, reason: `${reason} (${entries} entries)`, firstNs, lastNs };
}

/** What follows the pieces that were found is the index alone when it has just its length. */
function lostEnd(size: number, { blocks }: BlockIndex, { at, reason }: { at: number; reason: string }): Damage {
  if (size - at === indexBytes(blocks.length))
    return { offset: at, bytes: 0, reason: `${reason}, all blocks are there` };
  const last = blocks.at(-1);
  const words = `${reason}: ${blocks.length} blocks were found, what followed them is lost`;
  return { offset: at, bytes: Math.max(0, size - at), reason: words, ...(last && { firstNs: last.lastNs }) };
}
