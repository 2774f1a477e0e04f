import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { errnoOf } from './disk.ts';
import { readBlockIndex } from './segment-blocks.ts';
import { currentPath, listFolder, lookAtSegment, type Place, readSegment, type Segment } from './segment-files.ts';
import { HEADER_BYTES, segmentFileName } from './segment-format.ts';
import type { Damage } from './segment-reader.ts';

/** What one file of a log holds. */
export interface SegmentInspection {
  readonly segment: number;
  readonly file: string;
  readonly form: 'raw' | 'compressed';
  /** The newest of a log that a process has open: it may grow. */
  readonly isActive: boolean;
  readonly bytes: number;
  /** Length before compression. */
  readonly rawBytes: number;
  readonly entries: number;
  /** Smallest and largest time of an entry, epoch nanoseconds; undefined without any. */
  readonly firstNs: bigint | undefined;
  readonly lastNs: bigint | undefined;
  readonly damage: readonly Damage[];
  /** Bytes of the raw segment that an earlier repair took out. */
  readonly removedBytes: number;
}

export interface LogInspection {
  readonly folder: string;
  readonly segments: readonly SegmentInspection[];
  /** Numbers between the oldest and the newest that are not there. */
  readonly missing: readonly { readonly from: number; readonly to: number }[];
  /** Names of other files: left unfinished, kept by a repair, not ours. */
  readonly unfinished: readonly string[];
  readonly kept: readonly string[];
  readonly strange: readonly string[];
}

export interface InspectOptions {
  /** A process appends to the log and lets segments go meanwhile. */
  readonly isInUse: boolean;
  /** After each segment: bytes read so far, and of all files. */
  readonly progress?: (bytes: number, bytesTotal: number) => void;
}

/** Reads every entry of a log's folder and changes nothing. Throws AppError `storage` when a newer program wrote it. */
export async function inspectLog(place: Place, { isInUse, progress }: InspectOptions): Promise<LogInspection> {
  const names = await listFolder(place);
  const numbers = [...names.segments.keys()];
  const newest = numbers.at(-1);
  const bytesTotal = numbers.reduce((sum, number) => sum + sizeOf(place, number), 0);
  let bytes = 0;
  const segments: SegmentInspection[] = [];
  for (const number of numbers) {
    const found = isInUse
      ? await inspectInUse(place, number, number === newest)
      : await inspectOnce(place, number, false);
    if (found) segments.push(found);
    bytes += found?.bytes ?? 0;
    progress?.(bytes, bytesTotal);
  }
  return {
    folder: place.folder,
    segments: segments.map((segment, index) => withLostTimes(segment, segments[index + 1])),
    missing: missingNumbers(numbers),
    unfinished: isInUse ? [] : names.unfinished,
    kept: names.damaged,
    strange: names.strange,
  };
}

export function isDamaged(log: LogInspection): boolean {
  return log.missing.length > 0 || log.segments.some(({ damage }) => damage.length > 0);
}

function sizeOf({ disk, folder, kind }: Place, number: number): number {
  for (const one of kind.compressed ? [kind.compressed, kind] : [kind]) {
    try {
      const file = disk.openSync(join(folder, segmentFileName(one, number)));
      try {
        return file.size();
      } finally {
        file.close();
      }
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
  return 0;
}

/** The tail of a segment that is being written is looked at again: what was half written is whole a moment later. */
const LOOKS_MAX = 5;
const LOOK_AGAIN_MS = 100;

/** Undefined when the segment went meanwhile. */
async function inspectInUse(place: Place, number: number, isActive: boolean): Promise<SegmentInspection | undefined> {
  let last: SegmentInspection | undefined;
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const before = last?.damage[0]?.offset;
    last = await inspectOnce(place, number, isActive);
    if (last === undefined || last.damage.length === 0) return last;
    // It may just be dropped; the newest may be in the middle of a write.
    if (before === last.damage[0]?.offset && !isActive) return last;
    await setTimeout(LOOK_AGAIN_MS);
  }
  return last;
}

async function inspectOnce(place: Place, number: number, isActive: boolean): Promise<SegmentInspection | undefined> {
  const segment = await lookAtEither(place, number);
  if (!segment) return undefined;
  const isCompressed = segment.compressedBytes !== undefined;
  let entries = 0;
  let [firstNs, lastNs]: (bigint | undefined)[] = [];
  const end = await readSegment(place, segment, ({ timeNs }) => {
    entries += 1;
    if (firstNs === undefined || timeNs < firstNs) firstNs = timeNs;
    if (lastNs === undefined || timeNs > lastNs) lastNs = timeNs;
  }).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return undefined;
  });
  if (!end) return undefined;
  const file = currentPath(place, segment);
  const header: Damage[] =
    segment.header && !segment.header.isForeign
      ? [{ offset: 0, bytes: Math.min(segment.bytes, HEADER_BYTES), reason: segment.header.reason }]
      : [];
  return {
    segment: number,
    file,
    form: isCompressed ? 'compressed' : 'raw',
    isActive,
    bytes: segment.compressedBytes ?? segment.bytes,
    rawBytes: segment.bytes,
    entries,
    firstNs,
    lastNs,
    damage: [...header, ...end.damage],
    removedBytes: isCompressed ? removedBytes(place, file) : 0,
  };
}

async function lookAtEither(place: Place, number: number): Promise<Segment | undefined> {
  for (const isCompressed of place.kind.compressed ? [true, false] : [false]) {
    try {
      return await lookAtSegment(place, number, isCompressed);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
  return undefined;
}

/** What is between the blocks of an index that is whole was taken out by a repair. */
function removedBytes({ disk }: Place, path: string): number {
  const file = disk.openSync(path);
  try {
    const { blocks, rawEnd, damage } = readBlockIndex(file);
    if (damage) return 0;
    return rawEnd - HEADER_BYTES - blocks.reduce((sum, { rawBytes }) => sum + rawBytes, 0);
  } finally {
    file.close();
  }
}

/** What is lost at the end of a segment was received before the next segment began. */
function withLostTimes(segment: SegmentInspection, next: SegmentInspection | undefined): SegmentInspection {
  const until = next?.firstNs;
  if (until === undefined) return segment;
  return { ...segment, damage: segment.damage.map((one) => (one.bytes > 0 ? { lastNs: until, ...one } : one)) };
}

function missingNumbers(numbers: readonly number[]): { from: number; to: number }[] {
  return numbers.flatMap((number, index) => {
    const before = numbers[index - 1];
    return before !== undefined && number > before + 1 ? [{ from: before + 1, to: number - 1 }] : [];
  });
}
