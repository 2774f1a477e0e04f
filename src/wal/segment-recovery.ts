import { join } from 'node:path';
import type { Disk, DiskFile } from './disk.ts';
import {
  ENTRY_HEAD_BYTES,
  HEADER_BYTES,
  parseHeader,
  parseSegmentFileName,
  type RawEntry,
  type SegmentKind,
  segmentFileName,
} from './segment-format.ts';
import { type ScanEnd, scanSegment } from './segment-reader.ts';

/** Something about a segment or a file that a person should know. */
export interface SegmentReport {
  /** 0 when it is about a file that is no segment. */
  readonly segment: number;
  /** Bytes that are not readable any more or were cut off. */
  readonly bytesCut: number;
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
  bytes: number;
  firstReceivedNs: bigint;
  lastReceivedNs: bigint;
  sealed: boolean;
}

export function segmentPath({ folder, kind }: SegmentFolder, segment: number): string {
  return join(folder, segmentFileName(kind, segment));
}

/**
 * The segments of a folder, oldest first, all sealed. The newest is read to its end and its torn tail cut off; the others
 * are checked when they are replayed. Strange files and missing numbers are reported, never touched.
 */
export async function recoverSegments(place: SegmentFolder): Promise<Segment[]> {
  const { folder, disk, kind, report } = place;
  await disk.makeFolder(folder);
  const numbers: number[] = [];
  for (const name of await disk.list(folder)) {
    const segment = parseSegmentFileName(kind, name);
    if (segment !== undefined) numbers.push(segment);
    else report({ segment: 0, bytesCut: 0, reason: `${join(folder, name)} is not ours and is left alone` });
  }
  numbers.sort((a, b) => a - b);
  const segments: Segment[] = [];
  for (const number of numbers) {
    const before = segments.at(-1);
    const missing = before ? number - before.segment - 1 : 0;
    if (missing > 0)
      report({ segment: number, bytesCut: 0, reason: `${missing} segments before this one are missing` });
    const segment = await inspectSegment(place, number, number === numbers.at(-1));
    if (before && segment.firstReceivedNs > before.lastReceivedNs) before.lastReceivedNs = segment.firstReceivedNs;
    segments.push(segment);
  }
  return segments;
}

async function inspectSegment(place: SegmentFolder, number: number, newest: boolean): Promise<Segment> {
  const file = await place.disk.open(segmentPath(place, number));
  try {
    const bytes = await file.size();
    const start = Buffer.alloc(HEADER_BYTES + ENTRY_HEAD_BYTES);
    const got = await file.read(start, 0);
    const header = parseHeader(start.subarray(0, Math.min(got, HEADER_BYTES)), place.kind, number);
    if (!header.ok) place.report({ segment: number, bytesCut: 0, reason: header.reason });
    const createdNs = header.ok ? header.createdNs : 0n;
    const firstNs = got === start.length ? start.readBigUInt64LE(HEADER_BYTES + 10) : createdNs;
    const times = { firstReceivedNs: firstNs, lastReceivedNs: firstNs };
    const segment = { segment: number, createdMs: 0, bytes, ...times, sealed: true };
    if (newest && bytes >= HEADER_BYTES) await cutTornTail(place, file, segment);
    return segment;
  } finally {
    await file.close();
  }
}

async function cutTornTail(place: SegmentFolder, file: DiskFile, segment: Segment): Promise<void> {
  const end = await readSegment(place, segment, () => undefined);
  if (end.reason) {
    await file.truncate(end.bytes);
    const bytesCut = segment.bytes - end.bytes;
    place.report({ segment: segment.segment, bytesCut, reason: `${end.reason}: cut off` });
    segment.bytes = end.bytes;
  }
  // What an earlier process wrote without reaching its fsync counts from now on, so it must be durable from now on.
  await file.fdatasync();
}

/** Visits the entries of a segment in order and makes its times exact. */
export async function readSegment(
  place: SegmentFolder,
  segment: Segment,
  visit: (entry: RawEntry) => void | Promise<void>,
): Promise<ScanEnd> {
  const file = await place.disk.open(segmentPath(place, segment.segment));
  let first: bigint | undefined;
  let last = 0n;
  try {
    const end = await scanSegment(file, place.kind, segment.segment, segment.bytes, (entry) => {
      if (first === undefined || entry.timeNs < first) first = entry.timeNs;
      if (entry.timeNs > last) last = entry.timeNs;
      return visit(entry);
    });
    if (first !== undefined) {
      segment.firstReceivedNs = first;
      segment.lastReceivedNs = last;
    }
    return end;
  } finally {
    await file.close();
  }
}
