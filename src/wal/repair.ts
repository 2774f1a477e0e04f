import { dirname, join } from 'node:path';
import { errnoOf } from './disk.ts';
import { inspectLog, type SegmentInspection } from './inspect.ts';
import { type Block, encodeIndex, openBlock, readBlockIndex } from './segment-blocks.ts';
import type { Place, SegmentReport } from './segment-files.ts';
import { DAMAGED_SUFFIX, encodeHeader, HEADER_BYTES, segmentFileName, UNFINISHED_SUFFIX } from './segment-format.ts';
import type { Damage } from './segment-reader.ts';
import { keepDamaged, recoverSegments } from './segment-recovery.ts';

/** What a repair did with one piece of damage. */
export interface RepairStep {
  readonly file: string;
  readonly offset: number;
  /** Bytes of evidence or journal that are lost; 0 when nothing is. */
  readonly lostBytes: number;
  /** They were received in between, epoch nanoseconds, as far as known. */
  readonly firstNs?: bigint;
  readonly lastNs?: bigint;
  readonly reason: string;
  /** The file that keeps what was taken out. */
  readonly kept?: string;
}

/**
 * Makes every segment of a log whole again by taking out what cannot be read, which is kept in files beside it. Nobody else
 * may have the folder open. Order, each step after the one before is durable: the damaged bytes are copied; then a raw
 * segment is cut back, or a compressed one written anew and renamed; a file in which nothing can be read is renamed.
 */
export async function repairLog(
  place: Place,
  progress?: (bytes: number, bytesTotal: number) => void,
): Promise<RepairStep[]> {
  const steps: RepairStep[] = [];
  const { segments } = await inspectLog(place, { isInUse: false, ...(progress && { progress }) });
  for (const segment of segments) {
    if (segment.damage.length > 0) steps.push(...(await repairSegment(place, segment)));
  }
  // What an open tidies up: files that were left unfinished.
  const report = ({ file, reason, bytesCut: lostBytes, offset = 0 }: SegmentReport) => {
    if (file !== undefined && lostBytes > 0) steps.push({ file, offset, lostBytes, reason });
  };
  await recoverSegments({ ...place, report });
  return steps;
}

async function repairSegment(place: Place, segment: SegmentInspection): Promise<RepairStep[]> {
  const isWhole = segment.damage.some(({ offset, bytes }) => offset === 0 && bytes >= segment.bytes);
  if (isWhole && segment.bytes > 0) return [await setAside(place, segment)];
  return segment.form === 'raw' ? repairRaw(place, segment) : repairCompressed(place, segment);
}

/** A foreign file, or one without a single entry that can be read. */
async function setAside({ disk }: Place, { file, damage, bytes }: SegmentInspection): Promise<RepairStep> {
  const kept = file + DAMAGED_SUFFIX;
  await disk.rename(file, kept);
  await disk.syncFolder(dirname(file));
  return { file, offset: 0, lostBytes: bytes, reason: damage[0]?.reason ?? '', kept };
}

async function repairRaw(place: Place, segment: SegmentInspection): Promise<RepairStep[]> {
  const { disk, kind } = place;
  const file = await disk.open(segment.file);
  const steps: RepairStep[] = [];
  try {
    for (const damage of segment.damage) {
      const kept = damage.bytes > 0 ? await keepDamaged(disk, file, segment.file, damage) : undefined;
      if (damage.offset === 0) await file.write([encodeHeader(kind, segment.segment, segment.firstNs ?? 0n)], 0);
      else await file.truncate(damage.offset);
      await file.fdatasync();
      steps.push(stepOf(segment, damage, damage.offset === 0 ? 0 : damage.bytes, kept));
    }
  } finally {
    await file.close();
  }
  return steps;
}

/** Writes the pieces that can be read, and an index that leaves out the others. */
async function repairCompressed(place: Place, segment: SegmentInspection): Promise<RepairStep[]> {
  const { disk, kind } = place;
  const compressed = kind.compressed ?? kind;
  const unfinished = join(place.folder, segmentFileName(compressed, segment.segment)) + UNFINISHED_SUFFIX;
  await disk.unlink(unfinished).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
  const steps: RepairStep[] = [];
  const source = await disk.openToRead(segment.file);
  const target = await disk.create(unfinished);
  try {
    for (const damage of segment.damage) {
      const kept = damage.bytes > 0 ? await keepDamaged(disk, source, segment.file, damage) : undefined;
      steps.push(stepOf(segment, damage, damage.offset === 0 ? 0 : damage.bytes, kept));
    }
    await target.write([encodeHeader(compressed, segment.segment, segment.firstNs ?? 0n)], 0);
    const blocks: Block[] = [];
    let at = HEADER_BYTES;
    for (const block of indexOf(place, segment.file)) {
      // A damage that begins with the block is an entry of it, though its pieces are whole.
      if (segment.damage.some(({ offset, bytes: lost }) => lost > 0 && offset === block.at)) continue;
      const bytes = Buffer.alloc(block.bytes);
      const open = await openBlock(bytes.subarray(0, await source.read(bytes, block.at)), block);
      if (open.raw.length === 0) continue;
      await target.write([bytes.subarray(0, open.bytes)], at);
      blocks.push({ ...block, at, bytes: open.bytes, rawBytes: open.raw.length, entries: open.entries });
      at += open.bytes;
    }
    await target.write([encodeIndex(blocks, at, segment.rawBytes)], at);
    await target.fdatasync();
  } finally {
    await source.close();
    await target.close();
  }
  await disk.rename(unfinished, segment.file);
  await disk.syncFolder(place.folder);
  return steps;
}

function indexOf({ disk }: Place, path: string): readonly Block[] {
  const file = disk.openSync(path);
  try {
    return readBlockIndex(file).blocks;
  } finally {
    file.close();
  }
}

function stepOf(segment: SegmentInspection, damage: Damage, lostBytes: number, kept: string | undefined): RepairStep {
  const { offset, bytes: _, ...rest } = damage;
  return { file: segment.file, offset, lostBytes, ...rest, ...(kept === undefined ? {} : { kept }) };
}
