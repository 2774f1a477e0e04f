import { type Clock, msToNs, nsToMs, systemClock } from '../core/clock.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { ENTRY_HEAD_BYTES, type FramePosition, JOURNAL_KIND, type RawEntry, sealEntry } from './segment-format.ts';
import { SegmentLog } from './segment-log.ts';
import { SegmentReader } from './segment-reader.ts';
import type { SegmentReport } from './segment-recovery.ts';

/** Where an entry of the settle journal starts. */
export type JournalPosition = FramePosition;

/**
 * What a restart knows of a settled trace that the store has acknowledged.
 *
 * Body on disk, after the entry's head with the time `settledAtMs`: through.segment u32, through.offset u32, rank u64,
 * revision u32, number of records u32, namespace, trace id, then for each record timestampNs u64 and id. Texts are a u16
 * length and UTF-8.
 */
export interface JournalEntry {
  readonly namespace: string;
  readonly traceId: string;
  /** The newest evidence that was in the settle: what came after it makes the trace dirty again. */
  readonly through: FramePosition;
  readonly rank: bigint;
  readonly revision: number;
  /** Whole milliseconds. */
  readonly settledAtMs: number;
  readonly records: readonly { readonly id: string; readonly timestampNs: bigint }[];
}

export interface SettleJournalOptions {
  readonly folder: string;
  /** A segment is closed at this size. Default 16 MiB. */
  readonly segmentBytes?: number;
  readonly disk?: Disk;
  readonly clock?: Clock;
  readonly report?: (report: SegmentReport) => void;
}

const FIXED_BYTES = 24;
const TEXT_LENGTH_BYTES = 2;
const UTF8_BYTES_MAX = 3;

function textBytesMax(text: string): number {
  return TEXT_LENGTH_BYTES + text.length * UTF8_BYTES_MAX;
}

function writeText(target: Buffer, text: string, at: number): number {
  const bytes = target.write(text, at + TEXT_LENGTH_BYTES);
  target.writeUInt16LE(bytes, at);
  return at + TEXT_LENGTH_BYTES + bytes;
}

function entryBytesMax(entry: JournalEntry): number {
  let bytes = ENTRY_HEAD_BYTES + FIXED_BYTES + textBytesMax(entry.namespace) + textBytesMax(entry.traceId);
  for (const record of entry.records) bytes += 8 + textBytesMax(record.id);
  return bytes;
}

/** Writes the whole entry at `start`; returns its end. */
function encodeEntry(target: Buffer, entry: JournalEntry, start: number): number {
  const body = start + ENTRY_HEAD_BYTES;
  target.writeUInt32LE(entry.through.segment, body);
  target.writeUInt32LE(entry.through.offset, body + 4);
  target.writeBigUInt64LE(entry.rank, body + 8);
  target.writeUInt32LE(entry.revision, body + 16);
  target.writeUInt32LE(entry.records.length, body + 20);
  let at = writeText(target, entry.namespace, body + FIXED_BYTES);
  at = writeText(target, entry.traceId, at);
  for (const record of entry.records) {
    target.writeBigUInt64LE(BigInt.asUintN(64, record.timestampNs), at);
    at = writeText(target, record.id, at + 8);
  }
  sealEntry(target.subarray(start, at), 0, msToNs(entry.settledAtMs));
  return at;
}

function decodeEntry({ body, timeNs }: RawEntry): JournalEntry {
  let at = FIXED_BYTES;
  const text = (): string => {
    const end = at + TEXT_LENGTH_BYTES + body.readUInt16LE(at);
    const value = body.toString('utf8', at + TEXT_LENGTH_BYTES, end);
    at = end;
    return value;
  };
  const namespace = text();
  const traceId = text();
  const records: { id: string; timestampNs: bigint }[] = [];
  for (let left = body.readUInt32LE(20); left > 0; left -= 1) {
    const timestampNs = body.readBigUInt64LE(at);
    at += 8;
    records.push({ id: text(), timestampNs });
  }
  return {
    namespace,
    traceId,
    through: { segment: body.readUInt32LE(0), offset: body.readUInt32LE(4) },
    rank: body.readBigUInt64LE(8),
    revision: body.readUInt32LE(16),
    settledAtMs: nsToMs(timeNs),
    records,
  };
}

/** Which traces are settled and stored, and where their records live. Segment files like the write-ahead log's. */
export class SettleJournal {
  readonly #log: SegmentLog;
  readonly #reader: SegmentReader;

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
      committed: () => undefined,
    });
    return new SettleJournal(log, new SegmentReader(folder, JOURNAL_KIND, disk));
  }

  get bytes(): number {
    return this.#log.bytes;
  }

  /** One write and one fsync for the batch; the positions are those of the entries, in order. Rejects as Wal.append does. */
  async append(entries: readonly JournalEntry[]): Promise<JournalPosition[]> {
    if (entries.length === 0) return [];
    const buffer = Buffer.allocUnsafe(entries.reduce((sum, entry) => sum + entryBytesMax(entry), 0));
    const starts: number[] = [];
    let end = 0;
    let firstMs = Number.POSITIVE_INFINITY;
    let lastMs = 0;
    for (const entry of entries) {
      starts.push(end);
      end = encodeEntry(buffer, entry, end);
      firstMs = Math.min(firstMs, entry.settledAtMs);
      lastMs = Math.max(lastMs, entry.settledAtMs);
    }
    const buffers = [buffer.subarray(0, end)];
    const first = await this.#log.append({ buffers, bytes: end, firstNs: msToNs(firstMs), lastNs: msToNs(lastMs) });
    return starts.map((start) => ({ segment: first.segment, offset: first.offset + start }));
  }

  /** Without waiting. Throws AppError `storage` when the entry is gone or damaged. */
  read(position: JournalPosition): JournalEntry {
    return decodeEntry(this.#reader.read(position));
  }

  /** Every entry that was there at the open, oldest first; the next one after the visit is done. */
  async replay(
    visit: (entry: JournalEntry, position: JournalPosition) => void | Promise<void>,
  ): Promise<{ entries: number; bytes: number }> {
    return this.#log.replay((entry) => visit(decodeEntry(entry), entry.position));
  }

  /** Removes whole segments whose newest entry was settled before this time (epoch milliseconds); never the newest segment. */
  async dropBefore(timeMs: number): Promise<void> {
    for (const { segment, lastReceivedNs } of this.#log.segments().slice(0, -1)) {
      if (lastReceivedNs >= msToNs(timeMs)) continue;
      await this.#log.drop(segment);
      this.#reader.forget(segment);
    }
  }

  async close(): Promise<void> {
    await this.#log.close();
    this.#reader.close();
  }
}
