import { dirname, join } from 'node:path';
import { formatTimestamp, nsToMs } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import { scanCompressed } from './compressed-scan.ts';
import { type Disk, type DiskFile, errnoOf, isDiskFull } from './disk.ts';
import { holdsWholeEntry } from './find-entry.ts';
import { readBlockIndex } from './segment-blocks.ts';
import {
  DAMAGED_SUFFIX,
  ENTRY_HEAD_BYTES,
  encodeHeader,
  HEADER_BYTES,
  parseHeader,
  parseSegmentFileName,
  type RawEntry,
  type SegmentKind,
  segmentFileName,
  UNFINISHED_SUFFIX,
} from './segment-format.ts';
import { type Damage, type ScanEnd, scanSegment } from './segment-reader.ts';

/** Something about a segment or a file that a person should know. */
export interface SegmentReport {
  /** 0 when it is about a file that is no segment. */
  readonly segment: number;
  /** Where it is; absent when it is about no single file. */
  readonly file?: string;
  /** Where in the file. */
  readonly offset?: number;
  /** Bytes that are not readable any more or were cut off. */
  readonly bytesCut: number;
  /** RFC 3339: what is lost was received in between, as far as is known. */
  readonly from?: string;
  readonly to?: string;
  readonly reason: string;
}

export interface SegmentFolder {
  readonly folder: string;
  readonly kind: SegmentKind;
  readonly disk: Disk;
  readonly report: (report: SegmentReport) => void;
}

/** What is known of a segment file. Times are epoch nanoseconds of its entries, estimates before it has been read. */
export interface Segment {
  readonly segment: number;
  readonly createdMs: number;
  /** Length of the raw segment: where the next entry would start. */
  bytes: number;
  /** Length of the compressed file, once that has taken the place of the raw one. */
  compressedBytes?: number;
  firstReceivedNs: bigint;
  lastReceivedNs: bigint;
  sealed: boolean;
  /** What is wrong with the header, if anything. */
  readonly header?: { readonly isForeign: boolean; readonly reason: string };
}

/** Where segments are. */
export type Place = Omit<SegmentFolder, 'report'>;

export function segmentPath({ folder, kind }: Place, segment: number): string {
  return join(folder, segmentFileName(kind, segment));
}

/** The file that holds the segment now. */
export function currentPath({ folder, kind }: Place, segment: Segment): string {
  const current = segment.compressedBytes === undefined ? kind : (kind.compressed ?? kind);
  return join(folder, segmentFileName(current, segment.segment));
}

/** What a log's folder holds, by name only. */
export interface FolderNames {
  /** Segment numbers in order, with the forms in which each is there. */
  readonly segments: ReadonlyMap<number, { readonly raw: boolean; readonly compressed: boolean }>;
  /** Left behind by a compaction that was cut short. */
  readonly unfinished: readonly string[];
  /** What a repair took out of the log. */
  readonly damaged: readonly string[];
  readonly strange: readonly string[];
}

export async function listFolder({ folder, kind, disk }: Place): Promise<FolderNames> {
  const found: [number, 'raw' | 'compressed'][] = [];
  const [unfinished, damaged, strange]: [string[], string[], string[]] = [[], [], []];
  const compressedOf = (name: string) => kind.compressed && parseSegmentFileName(kind.compressed, name);
  for (const name of await disk.list(folder)) {
    const raw = parseSegmentFileName(kind, name);
    const compressed = compressedOf(name);
    if (raw !== undefined) found.push([raw, 'raw']);
    else if (compressed !== undefined) found.push([compressed, 'compressed']);
    else if (name.endsWith(DAMAGED_SUFFIX)) damaged.push(name);
    else if (name.endsWith(UNFINISHED_SUFFIX) && compressedOf(name.slice(0, -UNFINISHED_SUFFIX.length)) !== undefined)
      unfinished.push(name);
    else strange.push(name);
  }
  found.sort(([a], [b]) => a - b);
  const segments = new Map<number, { raw: boolean; compressed: boolean }>();
  for (const [segment, form] of found) {
    segments.set(segment, { raw: false, compressed: false, ...segments.get(segment), [form]: true });
  }
  return { segments, unfinished, damaged, strange };
}

/**
 * The segments of a folder, oldest first, all sealed. The newest is read to its end and its torn tail cut off; the others
 * are checked when they are replayed. What a compaction left unfinished is tidied up. Strange files, those of another kind
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
  if (newest && newest.compressedBytes === undefined) await makeWhole(place, newest);
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

/** A compaction was cut short after its rename: true when the compressed file is the one that is kept. */
async function keepOneForm(place: SegmentFolder, number: number): Promise<boolean> {
  const { disk, folder, kind } = place;
  if (!kind.compressed) return false;
  const raw = segmentPath(place, number);
  const compressed = join(folder, segmentFileName(kind.compressed, number));
  const segment = await lookAtSegment(place, number, true);
  const { damage } = await readSegment(place, segment, () => undefined);
  const rawBytes = await sizeOf(disk, raw);
  // An empty raw file is what the last steps of a compaction leave: then there is nothing else than the compressed one.
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

/** Reads the header, and of a compressed segment the index; of a raw one the first entry's head. Throws when it is not there. */
export async function lookAtSegment(place: Place, number: number, isCompressed: boolean): Promise<Segment> {
  const { disk, folder } = place;
  const kind = isCompressed ? (place.kind.compressed ?? place.kind) : place.kind;
  const file = disk.openSync(join(folder, segmentFileName(kind, number)));
  try {
    const start = Buffer.alloc(HEADER_BYTES + ENTRY_HEAD_BYTES);
    const got = file.read(start, 0);
    const header = parseHeader(start.subarray(0, Math.min(got, HEADER_BYTES)), kind, number);
    const createdNs = header.ok ? header.createdNs : 0n;
    const common = { segment: number, createdMs: nsToMs(createdNs), sealed: true, ...(header.ok ? {} : { header }) };
    if (!isCompressed) {
      // The header was checked; the first entry was not, and a wrong time would let segments go too early.
      const isTold = createdNs > 0n || got < start.length;
      const firstNs = isTold ? createdNs : start.readBigUInt64LE(HEADER_BYTES + 10);
      return { ...common, bytes: file.size(), firstReceivedNs: firstNs, lastReceivedNs: firstNs };
    }
    const { blocks, rawEnd } = readBlockIndex(file);
    const first = blocks[0]?.firstNs ?? createdNs;
    return {
      ...common,
      bytes: rawEnd,
      compressedBytes: file.size(),
      firstReceivedNs: blocks.reduce((least, { firstNs }) => (firstNs < least ? firstNs : least), first),
      lastReceivedNs: blocks.reduce((most, { lastNs }) => (lastNs > most ? lastNs : most), first),
    };
  } finally {
    file.close();
  }
}

/**
 * The newest raw segment is what a crash leaves unfinished: its torn tail is cut off, a header that was not written yet is
 * written. A tail in which whole entries follow the damage was not torn by a crash; it is kept as a file of its own.
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
  const path = segmentPath(place, segment.segment);
  const file = await place.disk.open(path);
  try {
    if (segment.bytes < HEADER_BYTES) {
      // The header is durable before the first entry is written (step 1), so there was none.
      await file.write([encodeHeader(place.kind, segment.segment, 0n)], 0);
      segment.bytes = HEADER_BYTES;
    } else await cutTornTail(place, file, path, segment);
    // What an earlier process wrote without reaching its fsync counts from now on, so it must be durable from now on.
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

export async function unlinkIfThere(disk: Disk, path: string): Promise<void> {
  await disk.unlink(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}

/** For the log: what was lost where. */
export function reportOf(place: Place, segment: Segment, damage: Damage): SegmentReport {
  const times = {
    ...(damage.firstNs === undefined ? {} : { from: formatTimestamp(damage.firstNs) }),
    ...(damage.lastNs === undefined ? {} : { to: formatTimestamp(damage.lastNs) }),
  };
  const { offset, bytes: bytesCut, reason } = damage;
  return { segment: segment.segment, file: currentPath(place, segment), offset, bytesCut, ...times, reason };
}

/**
 * Visits the entries of a segment in order and makes its times exact. When a compaction takes the raw file away meanwhile,
 * it goes on in the compressed one. Where `isReused`, the bytes of an entry are there until its visit is over.
 */
export async function readSegment(
  place: Place,
  segment: Segment,
  visit: (entry: RawEntry) => void | Promise<void>,
  isReused = false,
): Promise<ScanEnd> {
  let first: bigint | undefined;
  let last = 0n;
  const visitTimed = (entry: RawEntry) => {
    if (first === undefined || entry.timeNs < first) first = entry.timeNs;
    if (entry.timeNs > last) last = entry.timeNs;
    return visit(entry);
  };
  const wasSealed = segment.sealed;
  const end = await scanEither(place, segment, visitTimed, isReused);
  if (first !== undefined && wasSealed) {
    segment.firstReceivedNs = first;
    segment.lastReceivedNs = last;
  }
  return end;
}

type Visit = (entry: RawEntry) => void | Promise<void>;

function isCompacted({ compressedBytes }: Segment): boolean {
  return compressedBytes !== undefined;
}

async function scanEither(place: Place, segment: Segment, visit: Visit, isReused: boolean): Promise<ScanEnd> {
  if (segment.header?.isForeign) {
    const bytes = segment.compressedBytes ?? segment.bytes;
    return { bytes: HEADER_BYTES, entries: 0, damage: [{ offset: 0, bytes, reason: segment.header.reason }] };
  }
  if (isCompacted(segment)) return scanCompressedFile(place, segment, visit, HEADER_BYTES);
  let raw: ScanEnd = { bytes: HEADER_BYTES, entries: 0, damage: [] };
  try {
    const file = await place.disk.openToRead(segmentPath(place, segment.segment));
    try {
      raw = await scanSegment(file, place.kind, segment.segment, segment.bytes, visit, isReused);
    } finally {
      await file.close();
    }
    if (raw.damage.length === 0 || !isCompacted(segment)) return raw;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || !isCompacted(segment)) throw error;
  }
  const rest = await scanCompressedFile(place, segment, visit, raw.bytes);
  return { ...rest, entries: raw.entries + rest.entries };
}

async function scanCompressedFile(place: Place, segment: Segment, visit: Visit, from: number) {
  const path = join(place.folder, segmentFileName(place.kind.compressed ?? place.kind, segment.segment));
  const syncFile = place.disk.openSync(path);
  const file = await place.disk.openToRead(path);
  try {
    return await scanCompressed(file, readBlockIndex(syncFile), place.kind, segment.segment, visit, from);
  } finally {
    syncFile.close();
    await file.close();
  }
}
