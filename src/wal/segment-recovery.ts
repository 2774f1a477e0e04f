import { join } from 'node:path';
import { formatTimestamp, nsToMs } from '../core/clock.ts';
import { scanCompressed } from './compressed-scan.ts';
import { type Disk, type DiskFile, errnoOf } from './disk.ts';
import { readBlockIndex } from './segment-blocks.ts';
import {
  DAMAGED_SUFFIX,
  ENTRY_HEAD_BYTES,
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
}

export function segmentPath({ folder, kind }: SegmentFolder, segment: number): string {
  return join(folder, segmentFileName(kind, segment));
}

/** The file that holds the segment now. */
export function currentPath({ folder, kind }: SegmentFolder, segment: Segment): string {
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

export async function listFolder({ folder, kind, disk }: Omit<SegmentFolder, 'report'>): Promise<FolderNames> {
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
 * are checked when they are replayed. What a compaction left unfinished is tidied up. Strange files and missing numbers are
 * reported, never touched.
 */
export async function recoverSegments(place: SegmentFolder): Promise<Segment[]> {
  const { folder, disk, report } = place;
  await disk.makeFolder(folder);
  const names = await listFolder(place);
  for (const name of names.strange) {
    const file = join(folder, name);
    report({ segment: 0, file, bytesCut: 0, reason: `${file} is not ours and is left alone` });
  }
  for (const name of names.unfinished) await disk.unlink(join(folder, name));
  const numbers = [...names.segments.keys()];
  const segments: Segment[] = [];
  let isTidied = names.unfinished.length > 0;
  for (const [number, forms] of names.segments) {
    const before = segments.at(-1);
    const missing = before ? number - before.segment - 1 : 0;
    if (missing > 0)
      report({ segment: number, bytesCut: 0, reason: `${missing} segments before this one are missing` });
    let isCompressed = forms.compressed;
    if (forms.raw && forms.compressed) {
      isCompressed = await keepOneForm(place, number);
      isTidied = true;
    }
    const segment = isCompressed
      ? await inspectCompressed(place, number)
      : await inspectSegment(place, number, number === numbers.at(-1));
    // An estimate, unless its index told.
    if (before?.compressedBytes === undefined && before && segment.firstReceivedNs > before.lastReceivedNs)
      before.lastReceivedNs = segment.firstReceivedNs;
    segments.push(segment);
  }
  if (isTidied) await disk.syncFolder(folder);
  return segments;
}

/** A compaction was cut short after its rename: true when the compressed file is the one that is kept. */
async function keepOneForm(place: SegmentFolder, number: number): Promise<boolean> {
  const { disk, folder, kind } = place;
  if (!kind.compressed) return false;
  const raw = segmentPath(place, number);
  const compressed = join(folder, segmentFileName(kind.compressed, number));
  const segment = await inspectCompressed({ ...place, report: () => undefined }, number);
  const { damage } = await readSegment(place, segment, () => undefined);
  const rawBytes = await sizeOf(disk, raw);
  // An empty raw file is what the last steps of a compaction leave: then there is nothing else than the compressed one.
  const keepsCompressed = damage.length === 0 || rawBytes < HEADER_BYTES;
  if (!keepsCompressed) {
    const reason = 'the compressed segment is damaged: the raw one, which is still there, is kept';
    place.report({ segment: number, file: compressed, bytesCut: 0, reason });
  }
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

async function inspectSegment(place: SegmentFolder, number: number, newest: boolean): Promise<Segment> {
  const path = segmentPath(place, number);
  const file = await place.disk.open(path);
  try {
    const bytes = await file.size();
    const start = Buffer.alloc(HEADER_BYTES + ENTRY_HEAD_BYTES);
    const got = await file.read(start, 0);
    const header = parseHeader(start.subarray(0, Math.min(got, HEADER_BYTES)), place.kind, number);
    if (!header.ok) place.report({ segment: number, file: path, offset: 0, bytesCut: 0, reason: header.reason });
    const createdNs = header.ok ? header.createdNs : 0n;
    const firstNs = got === start.length ? start.readBigUInt64LE(HEADER_BYTES + 10) : createdNs;
    const times = { firstReceivedNs: firstNs, lastReceivedNs: firstNs };
    const segment = { segment: number, createdMs: nsToMs(createdNs), bytes, ...times, sealed: true };
    if (newest && bytes >= HEADER_BYTES) await cutTornTail(place, file, segment);
    return segment;
  } finally {
    await file.close();
  }
}

/** Reads the header and the index only. */
async function inspectCompressed(place: SegmentFolder, number: number): Promise<Segment> {
  const kind = place.kind.compressed ?? place.kind;
  const path = join(place.folder, segmentFileName(kind, number));
  const file = place.disk.openSync(path);
  try {
    const start = Buffer.alloc(HEADER_BYTES);
    const header = parseHeader(start.subarray(0, file.read(start, 0)), kind, number);
    if (!header.ok) place.report({ segment: number, file: path, offset: 0, bytesCut: 0, reason: header.reason });
    const { blocks, rawEnd } = readBlockIndex(file);
    const createdNs = header.ok ? header.createdNs : 0n;
    const [first] = blocks;
    return {
      segment: number,
      createdMs: nsToMs(createdNs),
      bytes: rawEnd,
      compressedBytes: file.size(),
      firstReceivedNs: blocks.reduce(
        (least, { firstNs }) => (firstNs < least ? firstNs : least),
        first?.firstNs ?? createdNs,
      ),
      lastReceivedNs: blocks.reduce((most, { lastNs }) => (lastNs > most ? lastNs : most), first?.lastNs ?? createdNs),
      sealed: true,
    };
  } finally {
    file.close();
  }
}

async function cutTornTail(place: SegmentFolder, file: DiskFile, segment: Segment): Promise<void> {
  const end = await readSegment(place, segment, () => undefined);
  const [damage] = end.damage;
  if (damage) {
    await file.truncate(end.bytes);
    place.report({ ...reportOf(place, segment, damage), reason: `${damage.reason}: cut off` });
    segment.bytes = end.bytes;
  }
  // What an earlier process wrote without reaching its fsync counts from now on, so it must be durable from now on.
  await file.fdatasync();
}

/** For the log: what was lost where. */
export function reportOf(place: SegmentFolder, segment: Segment, damage: Damage): SegmentReport {
  const times = {
    ...(damage.firstNs === undefined ? {} : { from: formatTimestamp(damage.firstNs) }),
    ...(damage.lastNs === undefined ? {} : { to: formatTimestamp(damage.lastNs) }),
  };
  const { offset, bytes: bytesCut, reason } = damage;
  return { segment: segment.segment, file: currentPath(place, segment), offset, bytesCut, ...times, reason };
}

/**
 * Visits the entries of a segment in order and makes its times exact. When a compaction takes the raw file away meanwhile,
 * it goes on in the compressed one.
 */
export async function readSegment(
  place: SegmentFolder,
  segment: Segment,
  visit: (entry: RawEntry) => void | Promise<void>,
): Promise<ScanEnd> {
  let first: bigint | undefined;
  let last = 0n;
  const visitTimed = (entry: RawEntry) => {
    if (first === undefined || entry.timeNs < first) first = entry.timeNs;
    if (entry.timeNs > last) last = entry.timeNs;
    return visit(entry);
  };
  const end = await scanEither(place, segment, visitTimed);
  if (first !== undefined) {
    segment.firstReceivedNs = first;
    segment.lastReceivedNs = last;
  }
  return end;
}

type Visit = (entry: RawEntry) => void | Promise<void>;

function isCompacted({ compressedBytes }: Segment): boolean {
  return compressedBytes !== undefined;
}

async function scanEither(place: SegmentFolder, segment: Segment, visit: Visit): Promise<ScanEnd> {
  if (isCompacted(segment)) return scanCompressedFile(place, segment, visit, HEADER_BYTES);
  let raw: ScanEnd = { bytes: HEADER_BYTES, entries: 0, damage: [] };
  try {
    const file = await place.disk.openToRead(segmentPath(place, segment.segment));
    try {
      raw = await scanSegment(file, place.kind, segment.segment, segment.bytes, visit);
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

async function scanCompressedFile(place: SegmentFolder, segment: Segment, visit: Visit, from: number) {
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
