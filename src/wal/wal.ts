import { type Clock, msToNs, systemClock } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { decodeFrame, type Frame, FrameEncoder, type StoredFrame } from './frame.ts';
import { FrameCache } from './frame-cache.ts';
import { type PieceEncoder, StreamedPieces, WholePieces } from './piece-encoder.ts';
import { listFolder, type SegmentReport } from './segment-files.ts';
import { type FramePosition, type RawEntry, WAL_KIND } from './segment-format.ts';
import { type ReplayOptions, type SegmentInfo, SegmentLog } from './segment-log.ts';
import { SegmentReader } from './segment-reader.ts';

export interface WalOptions {
  readonly folder: string;
  /** A segment is closed at this size; a larger frame gets a segment of its own. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** A segment is closed at this age, so that old evidence of a quiet system can go. Default 1 hour. */
  readonly segmentAgeMs?: number;
  /** Recent frames kept in memory for reads. Default 64 MiB. */
  readonly cacheBytesMax?: number;
  /**
   * New segments get higher numbers than this: the newest segment that the settle journal names, in case somebody
   * removed files of the log and left the journal.
   */
  readonly segmentFloor?: number;
  /** New segments are compressed. Default false. */
  readonly isCompressed?: boolean;
  /** Default: on a thread of the pool where the disk is the machine's, else right here. */
  readonly encoder?: PieceEncoder;
  readonly disk?: Disk;
  readonly clock?: Clock;
  readonly counters?: Counters;
  /** Damage, cut tails, strange files, failed writes: for the log. */
  readonly report?: (report: SegmentReport) => void;
  /** What the file system said when an append could not be made durable. */
  readonly writeFailed?: (error: unknown) => void;
}

const MEBIBYTE = 1024 * 1024;

/** The write-ahead log: what was acknowledged, in the order it was. It is also where the spans live until they settle. */
export class Wal {
  readonly #log: SegmentLog;
  readonly #reader: SegmentReader;
  readonly #cache: FrameCache;
  readonly #clock: Clock;
  readonly #report: (report: SegmentReport) => void;
  readonly #encoder = new FrameEncoder();
  readonly #listeners: ((frame: StoredFrame) => void)[] = [];

  private constructor(log: SegmentLog, reader: SegmentReader, cache: FrameCache, options: WalOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#report = options.report ?? (() => undefined);
    this.#log = log;
    this.#reader = reader;
    this.#cache = cache;
  }

  /** Repairs a torn tail and reports what it meets. Throws AppError `storage` when a newer program wrote the folder. */
  static async open(options: WalOptions): Promise<Wal> {
    const { folder, counters, disk = nodeDisk } = options;
    const log = await SegmentLog.open({
      folder,
      kind: WAL_KIND,
      segmentBytes: options.segmentBytes ?? 64 * MEBIBYTE,
      segmentAgeMs: options.segmentAgeMs ?? 3_600_000,
      segmentFloor: options.segmentFloor ?? 0,
      disk,
      clock: options.clock ?? systemClock,
      ...(options.isCompressed && { encoder: options.encoder ?? encoderFor(disk) }),
      writeFailed: options.writeFailed ?? (() => undefined),
      report: options.report ?? (() => undefined),
      committed(bytes, savedBytes) {
        counters?.add('fsyncs', 1);
        counters?.add('appended', bytes);
        if (!options.isCompressed) return;
        counters?.add('compacted', bytes);
        counters?.add('compacted_away', savedBytes);
      },
    });
    const { damaged } = await listFolder({ folder, kind: WAL_KIND, disk });
    counters?.set('wal_damaged_files', damaged.length);
    const cache = new FrameCache(options.cacheBytesMax ?? 64 * MEBIBYTE);
    return new Wal(log, new SegmentReader(folder, WAL_KIND, disk), cache, options);
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.#log.bytes;
  }

  /**
   * Resolves when the frame is durable; frames that wait for the same fsync share it. Rejects with `unavailable` when it
   * could not be made durable: the sender must send it again.
   */
  append(frame: Frame): Promise<FramePosition> {
    return this.#append(frame, frame.note.receivedNs);
  }

  /**
   * As `append`, for a frame that was received some time ago: it says so still, but its segment does not look as old for that,
   * nor do those before.
   */
  appendAgain(frame: Frame): Promise<FramePosition> {
    return this.#append(frame, msToNs(this.#clock.nowMs()));
  }

  async #append(frame: Frame, timeNs: bigint): Promise<FramePosition> {
    const head = this.#encoder.encode(frame, timeNs);
    const length = head.length + frame.payload.length;
    return this.#log.append({
      entries: 1,
      buffers: frame.payload.length === 0 ? [head] : [head, frame.payload],
      bytes: length,
      firstNs: timeNs,
      lastNs: timeNs,
      durable: (position) => {
        const stored = { ...frame, position, length };
        this.#cache.add(stored);
        for (const listener of this.#listeners) listener(stored);
      },
    });
  }

  /** Every frame in append order, right after its fsync and before its append resolves. Must be cheap and not throw. */
  onDurable(listener: (frame: StoredFrame) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Visits every frame that was there at the open, oldest first, and none that came later; appends may go on. Where a
   * segment is damaged its later frames are reported as lost and the next segment goes on.
   */
  async replay(
    visit: (frame: StoredFrame) => void | Promise<void>,
    options: ReplayOptions = {},
  ): Promise<{ frames: number; bytes: number }> {
    let frames = 0;
    const { bytes } = await this.#log.replay((entry) => {
      const frame = this.#decode(entry);
      if (!frame) return undefined;
      frames += 1;
      return visit(frame);
    }, options);
    return { frames, bytes };
  }

  /** One entry that is no frame must not keep all others from being replayed. */
  #decode(entry: RawEntry): StoredFrame | undefined {
    try {
      return decodeFrame(entry);
    } catch (error) {
      const { segment, offset } = entry.position;
      this.#report({ segment, offset, bytesCut: entry.length, reason: describeError(error) });
      return undefined;
    }
  }

  /** From memory when recent, else from disk without waiting. Throws AppError `storage` when it is gone or damaged. */
  read(position: FramePosition): StoredFrame {
    const frame = this.#cache.get(position) ?? decodeFrame(this.#reader.read(position));
    this.#cache.wasRead(frame);
    return frame;
  }

  /** Oldest first. */
  segments(): SegmentInfo[] {
    return this.#log.segments();
  }

  /** Ends the newest segment when it is old, so that its evidence can go though nothing more comes. */
  async sealAged(): Promise<void> {
    await this.#log.sealAged();
  }

  /** Removes a segment that is not the newest. */
  async drop(segment: number): Promise<void> {
    await this.#log.drop(segment);
    this.#reader.forget(segment);
  }

  /** Finishes waiting appends; later ones are rejected. */
  async close(): Promise<void> {
    await this.#log.close();
    this.#reader.close();
  }
}

function encoderFor(disk: Disk): PieceEncoder {
  return disk === nodeDisk ? new StreamedPieces() : new WholePieces();
}

/** Reads frames of a log that another thread or process appends to. */
export interface FrameReader {
  /** Throws AppError `storage` when the frame is gone or damaged. */
  read(position: FramePosition): StoredFrame;
  /** Lets go of a dropped segment. */
  forget(segment: number): void;
  close(): void;
}

export function openFrameReader(folder: string, disk: Disk = nodeDisk): FrameReader {
  const reader = new SegmentReader(folder, WAL_KIND, disk);
  return {
    read: (position) => decodeFrame(reader.read(position)),
    forget: (segment) => reader.forget(segment),
    close: () => reader.close(),
  };
}
