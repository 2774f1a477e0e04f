import { dirname, join } from 'node:path';
import { describeError } from '../core/errors.ts';
import { type Disk, type DiskFile, isDiskFull } from './disk.ts';
import { holdsWholeEntry } from './find-entry.ts';
import { type BlockIndex, encodeIndex, holdsWholePiece, openBlock, readBlockIndex } from './segment-blocks.ts';
import {
  currentPath,
  listFolder,
  lookAtSegment,
  type Place,
  readSegment,
  reportOf,
  type Segment,
  type SegmentFolder,
  segmentPath,
  unlinkIfThere,
} from './segment-files.ts';
import { DAMAGED_SUFFIX, encodeHeader, HEADER_BYTES, segmentFileName } from './segment-format.ts';
import type { Damage } from './segment-reader.ts';

/**
 * The segments of a folder, oldest first, all sealed. The newest is read to its end and its torn tail cut off; the others
 * are checked when they are replayed. What was left unfinished is tidied up. Strange files, those of another kind
 * among them, and missing numbers are reported, never touched.
 */
export async function recoverSegments(place: SegmentFolder): Promise<Segment[]> {
  const { folder, disk, report } = place;
  await disk.makeFolder(folder);
  await disk.syncFolder(dirname(folder));
  const names = await listFolder(place);
  for (const name of names.strange) {
    const file = join(folder, name);
    report({ segment: 0, file, bytesCut: 0, reason: `${file} is not ours and is left alone` });
  }
  for (const name of names.unfinished) await disk.unlink(join(folder, name));
  const segments: Segment[] = [];
  let isTidied = names.unfinished.length > 0;
  let numberBefore: number | undefined;
  for (const [number, forms] of names.segments) {
    const missing = numberBefore === undefined ? 0 : number - numberBefore - 1;
    if (missing > 0)
      report({ segment: number, bytesCut: 0, reason: `${missing} segments before this one are missing` });
    numberBefore = number;
    let isCompressed = forms.compressed;
    if (forms.raw && forms.compressed) {
      isCompressed = await keepOneForm(place, number);
      isTidied = true;
    }
    const segment = await lookAtSegment(place, number, isCompressed);
    if (segment.header) reportHeader(place, segment, segment.header);
    if (segment.header?.isForeign) continue;
    estimateTimes(segment, segments.at(-1));
    segments.push(segment);
  }
  const newest = segments.at(-1);
  if (newest) await makeWhole(place, newest);
  if (isTidied) await disk.syncFolder(folder);
  return segments;
}

function reportHeader(place: SegmentFolder, segment: Segment, header: { isForeign: boolean; reason: string }): void {
  const reason = header.isForeign ? `${header.reason} and is left alone` : header.reason;
  place.report(reportOf(place, segment, { offset: 0, bytes: 0, reason }));
}

/** From what the neighbours know: of a segment that was not read only its beginning is certain. */
function estimateTimes(segment: Segment, before: Segment | undefined): void {
  if (!before) return;
  // A kill came before its header: it holds nothing and knows no time, which must not look like long ago.
  if (segment.firstReceivedNs === 0n) {
    segment.firstReceivedNs = before.lastReceivedNs;
    segment.lastReceivedNs = before.lastReceivedNs;
  }
  // The index of a compressed one has told already.
  const isEstimate = before.compressedBytes === undefined;
  if (isEstimate && segment.firstReceivedNs > before.lastReceivedNs) before.lastReceivedNs = segment.firstReceivedNs;
}

/** An older program was compressing a raw segment and came as far as the rename: true when the compressed file is kept. */
async function keepOneForm(place: SegmentFolder, number: number): Promise<boolean> {
  const { disk, folder, kind } = place;
  if (!kind.compressed) return false;
  const raw = segmentPath(place, number);
  const compressed = join(folder, segmentFileName(kind.compressed, number));
  const segment = await lookAtSegment(place, number, true);
  const { damage } = await readSegment(place, segment, () => undefined);
  const rawBytes = await sizeOf(disk, raw);
  // An empty raw file is what the last steps of it leave: then there is nothing else than the compressed one.
  const keepsCompressed = damage.length === 0 || rawBytes < HEADER_BYTES;
  if (!keepsCompressed) {
    const reason = 'the compressed segment is damaged: the raw one, which is still there, is kept';
    place.report({ segment: number, file: compressed, bytesCut: 0, reason });
  }
  // The rename may not be on the medium yet: without it, and without the raw file, there would be neither.
  await disk.syncFolder(folder);
  await disk.unlink(keepsCompressed ? raw : compressed);
  return keepsCompressed;
}

async function sizeOf(disk: Disk, path: string): Promise<number> {
  const file = await disk.openToRead(path);
  try {
    return await file.size();
  } finally {
    await file.close();
  }
}

/**
 * The newest segment is what a crash leaves unfinished: its torn tail is cut off, a header that was not written yet is
 * written, so is the index of a compressed one. A tail in which whole entries follow the damage was not torn by a crash; it
 * is kept as a file of its own.
 */
async function makeWhole(place: SegmentFolder, segment: Segment): Promise<void> {
  try {
    await makeFileWhole(place, segment);
  } catch (error) {
    // It is read up to the damage as it is, and appended to never.
    if (!isDiskFull(error)) throw error;
    const reason = `it cannot be repaired: ${describeError(error)}`;
    place.report(reportOf(place, segment, { offset: 0, bytes: 0, reason }));
  }
}

async function makeFileWhole(place: SegmentFolder, segment: Segment): Promise<void> {
  const path = currentPath(place, segment);
  const isCompressed = segment.compressedBytes !== undefined;
  const file = await place.disk.open(path);
  try {
    // What an earlier process wrote without reaching its fsync counts from now on, so it must be durable from now on, also where
    // there is no room for what follows.
    await file.fdatasync();
    if ((segment.compressedBytes ?? segment.bytes) < HEADER_BYTES) {
      // The header is durable before the first entry is written (step 1), so there was none.
      const kind = isCompressed ? (place.kind.compressed ?? place.kind) : place.kind;
      await file.write([encodeHeader(kind, segment.segment, 0n)], 0);
      segment.bytes = HEADER_BYTES;
      if (isCompressed) segment.compressedBytes = HEADER_BYTES;
    } else if (!isCompressed) await cutTornTail(place, file, path, segment);
    if (isCompressed) await closeBlocks(place, file, path, segment);
    await file.fdatasync();
  } finally {
    await file.close();
  }
}

async function cutTornTail(place: SegmentFolder, file: DiskFile, path: string, segment: Segment): Promise<void> {
  const end = await readSegment(place, segment, () => undefined, true);
  const [damage] = end.damage;
  if (!damage) return;
  let reason = `${damage.reason}: cut off`;
  const tail = Buffer.allocUnsafe(segment.bytes - damage.offset);
  if (holdsWholeEntry(tail.subarray(0, await file.read(tail, damage.offset)), place.kind)) {
    reason = `${reason}, with whole entries behind it; kept as ${await keepDamaged(place.disk, file, path, damage)}`;
  }
  await file.truncate(end.bytes);
  place.report({ ...reportOf(place, segment, damage), reason });
  segment.bytes = end.bytes;
}

/** Cuts the torn tail off a compressed segment and gives it the index that it lacks. */
async function closeBlocks(place: SegmentFolder, file: DiskFile, path: string, segment: Segment): Promise<void> {
  const index = indexOf(place, path);
  if (index.isClosed) return;
  const size = await file.size();
  const blocks = [...index.blocks];
  // The piece of a batch that was not acknowledged may have been persisted in part: the last block ends before it.
  let reason = index.damage?.reason ?? '';
  for (let last = blocks.pop(); last !== undefined; last = blocks.pop()) {
    const bytes = Buffer.allocUnsafeSlow(last.bytes);
    const open = await openBlock(bytes.subarray(0, await file.read(bytes, last.at)), last);
    reason = open.reason ?? reason;
    if (open.raw.length === 0) continue;
    blocks.push({ ...last, bytes: open.bytes, rawBytes: open.raw.length, entries: open.entries });
    break;
  }
  const whole = blocks.at(-1);
  const end = whole === undefined ? HEADER_BYTES : whole.at + whole.bytes;
  segment.bytes = whole === undefined ? HEADER_BYTES : whole.rawOffset + whole.rawBytes;
  if (end < size) {
    const damage = { offset: end, bytes: size - end, reason, ...(whole && { firstNs: whole.lastNs }) };
    await cutTornPieces(place, file, path, segment, damage);
  }
  segment.compressedBytes = end;
  const encoded = encodeIndex(blocks, end, segment.bytes);
  try {
    await file.write([encoded], end);
  } catch (error) {
    // A part of it would look like damage.
    await file.truncate(end);
    throw error;
  }
  segment.compressedBytes = end + encoded.length;
}

async function cutTornPieces(
  place: SegmentFolder,
  file: DiskFile,
  path: string,
  segment: Segment,
  damage: Damage,
): Promise<void> {
  let reason = `${damage.reason}: cut off`;
  const tail = Buffer.allocUnsafe(damage.bytes);
  if (holdsWholePiece(tail.subarray(0, await file.read(tail, damage.offset)))) {
    reason = `${reason}, with whole entries behind it; kept as ${await keepDamaged(place.disk, file, path, damage)}`;
  }
  await file.truncate(damage.offset);
  place.report({ ...reportOf(place, segment, damage), reason });
}

function indexOf({ disk }: Place, path: string): BlockIndex {
  const file = disk.openSync(path);
  try {
    return readBlockIndex(file);
  } finally {
    file.close();
  }
}

/** Bytes copied at a time. */
const COPY_BYTES = 4 * 1024 * 1024;

/** Copies what is about to be cut off into a file beside it, durably, and answers its name. */
export async function keepDamaged(disk: Disk, file: DiskFile, path: string, damage: Damage): Promise<string> {
  const name = `${path}.${damage.offset}${DAMAGED_SUFFIX}`;
  await unlinkIfThere(disk, name);
  const copy = await disk.create(name);
  try {
    for (let done = 0; done < damage.bytes; ) {
      const chunk = Buffer.alloc(Math.min(COPY_BYTES, damage.bytes - done));
      const got = await file.read(chunk, damage.offset + done);
      if (got === 0) break;
      await copy.write([chunk.subarray(0, got)], done);
      done += got;
    }
    await copy.fdatasync();
  } finally {
    await copy.close();
  }
  await disk.syncFolder(dirname(path));
  return name;
}
