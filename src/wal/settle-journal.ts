import { type Clock, msToNs, nsToMs, systemClock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { type EncodedEntries, encodeEntries, seal } from './encoded-entries.ts';
import { JournalOutput } from './journal-bytes.ts';
import {
  decodeHead,
  decodeMark,
  decodeSettle,
  ENTRY_KIND,
  ENTRY_VERSION,
  encodeMark,
  type JournalEntry,
  type JournalHead,
  type JournalMark,
} from './journal-codec.ts';
import type { SegmentReport } from './segment-files.ts';
import {
  ENTRY_HEAD_BYTES,
  type FramePosition,
  HEADER_BYTES,
  JOURNAL_KIND,
  type RawEntry,
  segmentFileName,
} from './segment-format.ts';
import { type ReplayProgress, SegmentLog } from './segment-log.ts';
import { SegmentReader } from './segment-reader.ts';

/** Where an entry of the settle journal starts. */
export type JournalPosition = FramePosition;

export type { JournalEntry, JournalHead, JournalMark, JournalRecord } from './journal-codec.ts';
export { type EvidencePlace, type EvidencePlaces, eachPlace, PlacePacker } from './journal-places.ts';

export interface SettleJournalOptions {
  readonly folder: string;
  /** A segment is closed at this size. Default 16 MiB. */
  readonly segmentBytes?: number;
  readonly disk?: Disk;
  readonly clock?: Clock;
  readonly report?: (report: SegmentReport) => void;
  /** What the file system said when an append could not be made durable. */
  readonly writeFailed?: (error: unknown) => void;
}

export interface JournalReplayOptions {
  readonly visitMark?: (mark: JournalMark) => void | Promise<void>;
  /** Called after each segment. */
  readonly progress?: (progress: ReplayProgress) => void;
}

const MARK_BYTES = 256;

function sealedMark(mark: JournalMark): Buffer {
  const output = new JournalOutput(Buffer.allocUnsafe(MARK_BYTES));
  output.skip(ENTRY_HEAD_BYTES);
  encodeMark(output, mark);
  seal(output, 0, ENTRY_KIND.mark, mark.atMs);
  return output.part(0, output.at);
}

function checkVersion({ version, kind, position }: RawEntry): void {
  if (version >= ENTRY_VERSION && (kind === ENTRY_KIND.settle || kind === ENTRY_KIND.mark)) return;
  const name = segmentFileName(JOURNAL_KIND, position.segment);
  if (version < ENTRY_VERSION) {
    throw new AppError(
      'storage',
      `settle journal segment ${name} has format version ${version}, which only earlier development versions wrote: move the folder "journal" away, and all that the write-ahead log still holds is settled again`,
    );
  }
  throw new AppError('storage', `settle journal segment ${name} at ${position.offset} holds an entry of unknown kind`);
}

function decode(raw: RawEntry): JournalEntry {
  checkVersion(raw);
  if (raw.kind === ENTRY_KIND.settle) return decodeSettle(raw.body, nsToMs(raw.timeNs));
  throw new AppError('storage', 'the settle journal holds a mark where an entry was asked for');
}

/** Which traces are settled and stored, and where their records live. Segment files like the write-ahead log's. */
export class SettleJournal {
  readonly #log: SegmentLog;
  readonly #reader: SegmentReader;
  /** By segment: the newest segment of the write-ahead log that an entry speaks of. */
  readonly #newestThrough = new Map<number, number>();

  /** Where the newest mark is. */
  #markedSegment: number | undefined;

  private constructor(log: SegmentLog, reader: SegmentReader) {
    this.#log = log;
    this.#reader = reader;
  }

  /** Throws AppError `storage` when a newer program wrote the folder. */
  static async open(options: SettleJournalOptions): Promise<SettleJournal> {
    const { folder, disk = nodeDisk } = options;
    const log = await SegmentLog.open({
      folder,
      kind: JOURNAL_KIND,
      segmentBytes: options.segmentBytes ?? 16 * 1024 * 1024,
      segmentAgeMs: 3_600_000,
      segmentFloor: 0,
      disk,
      clock: options.clock ?? systemClock,
      report: options.report ?? (() => undefined),
      writeFailed: options.writeFailed ?? (() => undefined),
      committed: () => undefined,
    });
    return new SettleJournal(log, new SegmentReader(folder, JOURNAL_KIND, disk));
  }

  get bytes(): number {
    return this.#log.bytes;
  }

  /** Number of the oldest segment; entries in earlier ones are gone. */
  get firstSegment(): number {
    return this.#log.segments()[0]?.segment ?? 0;
  }

  /**
   * One write and one fsync for the batch, its mark last; the positions are those of the entries, in order. Rejects as
   * Wal.append does. What a crash leaves of a batch is a prefix: what its entries say holds without its mark.
   */
  async append(entries: readonly JournalEntry[], mark?: JournalMark): Promise<JournalPosition[]> {
    if (entries.length === 0 && mark === undefined) return [];
    const [positions = []] = await this.appendEncoded([encodeEntries(entries)], mark);
    return positions;
  }

  /** The same for entries that are encoded, part by part; their bytes are to stay as they are until then. */
  async appendEncoded(parts: readonly EncodedEntries[], mark?: JournalMark): Promise<JournalPosition[][]> {
    const buffers = parts.map(({ bytes }) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    if (mark !== undefined) buffers.push(sealedMark(mark));
    const marks = mark === undefined ? [] : [mark.atMs];
    const firstMs = Math.min(...marks, ...parts.map((part) => part.firstMs));
    const lastMs = Math.max(...marks, ...parts.map((part) => part.lastMs));
    const bytes = buffers.reduce((sum, { length }) => sum + length, 0);
    const entries = parts.reduce((sum, { starts }) => sum + starts.length, marks.length);
    const log = { entries, buffers, bytes, firstNs: msToNs(firstMs), lastNs: msToNs(lastMs) };
    const { segment, offset } = await this.#log.append(log);
    if (mark !== undefined) this.#markedSegment = segment;
    let at = offset;
    return parts.map(({ bytes, starts, newestThrough }) => {
      const from = at;
      at += bytes.length;
      if (starts.length > 0) this.#noteThrough(segment, newestThrough);
      return Array.from(starts, (start) => ({ segment, offset: from + start }));
    });
  }

  #noted<Entry extends Pick<JournalEntry, 'through'>>(entry: Entry, { segment }: JournalPosition): Entry {
    this.#noteThrough(segment, entry.through.segment);
    return entry;
  }

  #noteThrough(segment: number, through: number): void {
    if ((this.#newestThrough.get(segment) ?? 0) < through) this.#newestThrough.set(segment, through);
  }

  /** Without waiting. Throws AppError `storage` when the entry is gone or damaged. */
  read(position: JournalPosition): JournalEntry {
    return decode(this.#reader.read(position));
  }

  /**
   * Every entry and every mark that was there at the open, oldest first; the next one after the visit is done. Throws
   * AppError `storage` for entries of a format that is not read any more.
   */
  replay(
    visit: (entry: JournalEntry, position: JournalPosition) => void | Promise<void>,
    options: JournalReplayOptions = {},
  ): Promise<{ entries: number; bytes: number }> {
    return this.#replay((raw) => visit(this.#noted(decode(raw), raw.position), raw.position), options);
  }

  /** As `replay`, with what a restart needs of each entry. */
  replayHeads(
    visit: (head: JournalHead, position: JournalPosition) => void | Promise<void>,
    options: JournalReplayOptions = {},
  ): Promise<{ entries: number; bytes: number }> {
    let [timeNs, timeMs] = [0n, 0];
    const head = (raw: RawEntry) => {
      // Entries of a batch share it, and there are millions.
      if (raw.timeNs !== timeNs) [timeNs, timeMs] = [raw.timeNs, nsToMs(raw.timeNs)];
      return this.#noted(decodeHead(raw.body, timeMs), raw.position);
    };
    return this.#replay((raw) => visit(head(raw), raw.position), options);
  }

  async #replay(
    visit: (raw: RawEntry) => void | Promise<void>,
    { visitMark, progress }: JournalReplayOptions,
  ): Promise<{ entries: number; bytes: number }> {
    let entries = 0;
    const { bytes } = await this.#log.replay(
      (raw) => {
        checkVersion(raw);
        if (raw.kind === ENTRY_KIND.mark) {
          this.#markedSegment = Math.max(this.#markedSegment ?? 0, raw.position.segment);
          return visitMark?.(decodeMark(raw.body, nsToMs(raw.timeNs)));
        }
        entries++;
        return visit(raw);
      },
      progress === undefined ? {} : { progress },
    );
    return { entries, bytes };
  }

  /**
   * Number of the newest segment of the write-ahead log that the journal speaks of, 0 when of none. Only the newest segments
   * of the journal are read, back to one with a mark: what is before that mark speaks of nothing newer.
   */
  async newestWalSegment(): Promise<number> {
    let newest = 0;
    let isMarked = false;
    const visit = (raw: RawEntry) => {
      checkVersion(raw);
      const timeMs = nsToMs(raw.timeNs);
      if (raw.kind === ENTRY_KIND.mark) {
        const { acceptedThrough, storedBefore } = decodeMark(raw.body, timeMs);
        isMarked = true;
        newest = Math.max(newest, acceptedThrough.segment, storedBefore - 1);
      } else newest = Math.max(newest, decodeHead(raw.body, timeMs).through.segment);
    };
    await this.#log.replayNewest(visit, () => isMarked);
    return newest;
  }

  /** Every entry that is there by now, oldest first, while appends go on. Returns the bytes that could not be read. */
  visit(visit: (entry: JournalEntry, position: JournalPosition) => void | Promise<void>): Promise<number> {
    return this.#log.visit((raw) => {
      checkVersion(raw);
      return raw.kind === ENTRY_KIND.mark ? undefined : visit(decode(raw), raw.position);
    });
  }

  /**
   * Removes whole segments whose newest entry was settled before this time (epoch milliseconds), never one from the newest
   * mark on (a newer segment may have been begun for a mark that is not durable yet), nor one that knows of evidence in this or a later segment of the write-ahead log: that may be read again, and the clock may
   * have been ahead when it was received.
   */
  async dropBefore(timeMs: number, walSegment = Number.POSITIVE_INFINITY): Promise<void> {
    const segments = this.#log.segments();
    const newest = segments.findLast(({ bytes }) => bytes > HEADER_BYTES)?.segment ?? 0;
    for (const { segment, lastReceivedNs } of segments) {
      if (segment >= Math.min(newest, this.#markedSegment ?? newest)) return;
      const isNeeded = (this.#newestThrough.get(segment) ?? 0) >= walSegment;
      if (isNeeded || lastReceivedNs >= msToNs(timeMs)) continue;
      await this.#log.drop(segment);
      this.#reader.forget(segment);
      this.#newestThrough.delete(segment);
    }
  }

  async close(): Promise<void> {
    await this.#log.close();
    this.#reader.close();
  }
}

/** Reads entries of a journal that another thread or process appends to. */
export interface JournalReader {
  /** Throws AppError `storage` when the entry is gone or damaged. */
  read(position: JournalPosition): JournalEntry;
  /** Lets go of dropped segments: those before this one. */
  forgetBefore(segment: number): void;
  close(): void;
}

export function openJournalReader(folder: string, disk: Disk = nodeDisk): JournalReader {
  const reader = new SegmentReader(folder, JOURNAL_KIND, disk);
  let first = 0;
  return {
    read: (position) => decode(reader.read(position)),
    forgetBefore(segment) {
      for (; first < segment; first++) reader.forget(first);
    },
    close: () => reader.close(),
  };
}
