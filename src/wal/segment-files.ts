import { join } from 'node:path';
import { formatTimestamp, nsToMs } from '../core/clock.ts';
import { scanCompressed } from './compressed-scan.ts';
import { type Disk, errnoOf } from './disk.ts';
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
  /** Raw offset of its end: where the next entry would start. */
  bytes: number;
  /** Length of the file, of a compressed segment. */
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
  /** Left behind by a repair, or by an older program, that was cut short. */
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
 * Visits the entries of a segment in order and makes its times exact. Where `isReused`, the bytes of an entry are there until
 * its visit is over.
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

async function scanEither(place: Place, segment: Segment, visit: Visit, isReused: boolean): Promise<ScanEnd> {
  if (segment.header?.isForeign) {
    const bytes = segment.compressedBytes ?? segment.bytes;
    return { bytes: HEADER_BYTES, entries: 0, damage: [{ offset: 0, bytes, reason: segment.header.reason }] };
  }
  if (segment.compressedBytes !== undefined) return scanCompressedFile(place, segment, visit, isReused);
  const file = await place.disk.openToRead(segmentPath(place, segment.segment));
  try {
    return await scanSegment(file, place.kind, segment.segment, segment.bytes, visit, isReused);
  } finally {
    await file.close();
  }
}

/** Of the segment that is appended to, what is durable now. */
async function scanCompressedFile(place: Place, segment: Segment, visit: Visit, isReused: boolean): Promise<ScanEnd> {
  const path = currentPath(place, segment);
  const syncFile = place.disk.openSync(path);
  const file = await place.disk.openToRead(path);
  try {
    return await scanCompressed(
      file,
      readBlockIndex(syncFile, segment.compressedBytes),
      place.kind,
      segment.segment,
      visit,
      isReused,
    );
  } finally {
    syncFile.close();
    await file.close();
  }
}
