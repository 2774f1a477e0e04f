import { assert } from '../core/assert.ts';
import { type Clock, msToNs, type Scheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { BackgroundCompaction } from './background-compaction.ts';
import { type DiskFile, errnoOf } from './disk.ts';
import { encodeHeader, type FramePosition, HEADER_BYTES, type RawEntry, SEGMENT_MAX } from './segment-format.ts';
import {
  currentPath,
  readSegment,
  recoverSegments,
  reportOf,
  type Segment,
  type SegmentFolder,
  segmentPath,
  unlinkIfThere,
} from './segment-recovery.ts';

export interface SegmentInfo {
  readonly segment: number;
  /** Length of the file. */
  readonly bytes: number;
  /** Smallest and largest time of an entry, epoch nanoseconds; of segments from an earlier run, estimates until replayed. */
  readonly firstReceivedNs: bigint;
  readonly lastReceivedNs: bigint;
  /** No longer appended to. */
  readonly sealed: boolean;
}

export interface SegmentLogOptions extends SegmentFolder {
  readonly segmentBytes: number;
  /** A segment is closed at this age even when it is not full. */
  readonly segmentAgeMs: number;
  /** New segments get higher numbers than this, whatever is in the folder. */
  readonly segmentFloor: number;
  readonly clock: Clock;
  /** Default: the machine's. */
  readonly scheduler?: Scheduler;
  /** After each fsync of appended bytes. */
  readonly committed: (bytes: number) => void;
  /** What the file system said when appended bytes could not be made durable. */
  readonly writeFailed?: (error: unknown) => void;
}

/** Entries that are written together: whole entries (see sealEntry), one after the other, in one segment. */
export interface Append {
  readonly buffers: readonly Buffer[];
  readonly bytes: number;
  readonly firstNs: bigint;
  readonly lastNs: bigint;
  /** Called in append order right after the fsync, before the append resolves. Must be cheap and must not throw. */
  readonly durable?: (position: FramePosition) => void;
}

interface Waiting extends Pick<PromiseWithResolvers<FramePosition>, 'resolve' | 'reject'> {
  readonly append: Append;
}

export interface ReplayProgress {
  readonly entries: number;
  readonly bytes: number;
  readonly bytesTotal: number;
}

export interface ReplayOptions {
  /** Older segments are passed over, unread. */
  readonly fromSegment?: number;
  /** The bytes of an entry are there until its visit is over, and no longer. */
  readonly isReused?: boolean;
  /** Called after each segment that was read. */
  readonly progress?: (progress: ReplayProgress) => void;
}

/** Numbered append-only files of checksummed entries with group commit. The format and the order of steps: segment-format.ts. */
export class SegmentLog {
  readonly #options: SegmentLogOptions;
  readonly #segments = new Map<number, Segment>();
  #replayable: readonly Segment[] = [];
  #active: { file: DiskFile; segment: Segment } | undefined;
  /** The segment whose last batch failed, until that is cut off. */
  #failed: { file: DiskFile; segment: Segment } | undefined;
  #nextSegment = 1;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  readonly #rolls: (() => void)[] = [];
  readonly #compaction: BackgroundCompaction;
  #closed = false;

  private constructor(options: SegmentLogOptions) {
    this.#options = options;
    this.#compaction = new BackgroundCompaction({ ...options, appends: () => this.#running });
  }

  static async open(options: SegmentLogOptions): Promise<SegmentLog> {
    assert(options.segmentBytes > HEADER_BYTES && options.segmentBytes <= 2 ** 31, 'segmentBytes is in range');
    const log = new SegmentLog(options);
    log.#replayable = await recoverSegments(options).catch((error: unknown) => {
      if (errnoOf(error) !== 'EACCES' && errnoOf(error) !== 'EPERM') throw error;
      const words = `the ${options.kind.words} in ${options.folder} cannot be opened: ${describeError(error)}`;
      throw new AppError('storage', `${words}; its files must belong to the user that runs Spantrail (chown -R)`, {
        cause: error,
      });
    });
    for (const segment of log.#replayable) log.#segments.set(segment.segment, segment);
    log.#nextSegment = Math.max(log.#replayable.at(-1)?.segment ?? 0, options.segmentFloor) + 1;
    return log;
  }

  get bytes(): number {
    let bytes = 0;
    for (const segment of this.#segments.values()) bytes += segment.compressedBytes ?? segment.bytes;
    return bytes;
  }

  segments(): SegmentInfo[] {
    return [...this.#segments.values()].map(({ createdMs: _, compressedBytes, ...info }) => ({
      ...info,
      bytes: compressedBytes ?? info.bytes,
    }));
  }

  /**
   * Resolves with the position of the first byte after its fsync. What waits while another batch is written goes together
   * with the next. Rejects with `unavailable` when the bytes could not be made durable; nothing is lost then but the
   * sender must send them again.
   */
  append(append: Append): Promise<FramePosition> {
    if (this.#closed) return Promise.reject(new AppError('unavailable', `the ${this.#options.kind.words} is closed`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ append, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Visits the entries that were on disk when the log was opened, oldest first; appends may go on meanwhile. */
  async replay(
    visit: (entry: RawEntry) => void | Promise<void>,
    { fromSegment = 0, isReused = false, progress }: ReplayOptions = {},
  ): Promise<ReplayProgress> {
    const segments = this.#replayable.filter(({ segment }) => segment >= fromSegment);
    const read = { entries: 0, bytes: 0, bytesTotal: segments.reduce((sum, { bytes }) => sum + bytes, 0) };
    for (const segment of segments) {
      if (this.#segments.get(segment.segment) === segment) {
        const end = await readSegment(this.#options, segment, visit, isReused);
        read.entries += end.entries;
        for (const damage of end.damage) this.#options.report(reportOf(this.#options, segment, damage));
      }
      read.bytes += segment.bytes;
      progress?.({ ...read });
    }
    return read;
  }

  /** Visits what was on disk at the open, the newest segment first, up to the end of one after which it is enough. */
  async replayNewest(visit: (entry: RawEntry) => void, isEnough: () => boolean): Promise<void> {
    for (const segment of this.#replayable.toReversed()) {
      await readSegment(this.#options, segment, visit);
      if (isEnough()) return;
    }
  }

  /**
   * Visits every entry that is durable when its segment is reached, oldest first; appends, compactions and drops may go on
   * meanwhile. Returns the bytes that could not be read.
   */
  async visit(visit: (entry: RawEntry) => void | Promise<void>): Promise<number> {
    let damagedBytes = 0;
    for (const number of [...this.#segments.keys()]) {
      const segment = this.#segments.get(number);
      const end =
        segment &&
        (await readSegment(this.#options, segment, visit).catch((error: unknown) => {
          if (this.#segments.has(number)) throw error;
          return undefined;
        }));
      for (const { bytes } of end?.damage ?? []) damagedBytes += bytes;
    }
    return damagedBytes;
  }

  /**
   * Seals the newest segment if it holds anything and is older than the age at which segments are closed, and starts the
   * next one: so that evidence of a quiet system can go, too.
   */
  async sealAged(): Promise<void> {
    const newest = [...this.#segments.values()].at(-1);
    if (newest === undefined || newest.bytes <= HEADER_BYTES) return;
    if (this.#options.clock.nowMs() - newest.createdMs > this.#options.segmentAgeMs) await this.#roll();
  }

  /** Removes a sealed segment for ever. The newest stays, so that numbers are never used twice. */
  async drop(segment: number): Promise<void> {
    const known = this.#segments.get(segment);
    if (!known || segment === Math.max(...this.#segments.keys())) {
      throw new AppError(
        'storage',
        `segment ${segment} of the ${this.#options.kind.words} is not one that can be dropped`,
      );
    }
    if (this.#compaction.segment === segment) await this.stopCompaction();
    await unlinkIfThere(this.#options.disk, currentPath(this.#options, known));
    await this.#options.disk.syncFolder(this.#options.folder);
    this.#segments.delete(segment);
  }

  /**
   * Compacts a sealed segment in the background, unless another one is being compacted. Appends go first. A failure is
   * reported and leaves the segment as it was. Answers whether it was begun.
   */
  startCompaction(number: number, compacted: (rawBytes: number, bytes: number) => void): boolean {
    const segment = this.#segments.get(number);
    return !this.#closed && segment !== undefined && this.#compaction.start(segment, compacted);
  }

  get isCompacting(): boolean {
    return this.#compaction.segment !== undefined;
  }

  /** What was begun is given up; resolves when nothing of it is under way. */
  stopCompaction(): Promise<void> {
    return this.#compaction.stop();
  }

  /** Finishes the appends that wait, then closes. Later appends are rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#compaction.close();
    await this.#running;
    await this.#cutFailedTail().catch(() => this.#failed?.file.close().catch(() => undefined));
    await this.#seal();
  }

  async #run(): Promise<void> {
    // Requests of the same turn of the event loop share the first write.
    await Promise.resolve();
    while (this.#waiting.length > 0 || this.#rolls.length > 0) {
      if (this.#rolls.length > 0) await this.#startNext();
      else await this.#commit();
    }
    this.#running = undefined;
  }

  /** In turn with the commits. */
  #roll(): Promise<void> {
    return new Promise((resolve) => {
      this.#rolls.push(resolve);
      this.#running ??= this.#run();
    });
  }

  async #startNext(): Promise<void> {
    const waiting = this.#rolls.splice(0);
    await this.#seal();
    await this.#create().catch((error: unknown) => {
      this.#report(this.#nextSegment, 0, `a new segment cannot be started: ${describeError(error)}`);
    });
    for (const resolve of waiting) resolve();
  }

  async #commit(): Promise<void> {
    const batch = await this.#takeBatch();
    let active = this.#active;
    let bytes = 0;
    try {
      active ??= await this.#create();
      const buffers: Buffer[] = [];
      for (const { append } of batch) {
        for (const buffer of append.buffers) buffers.push(buffer);
        bytes += append.bytes;
      }
      await active.file.write(buffers, active.segment.bytes);
      await active.file.fdatasync();
    } catch (error) {
      this.#options.writeFailed?.(error);
      const words = `the ${this.#options.kind.words} cannot be written: ${describeError(error)}`;
      for (const { reject } of batch) reject(new AppError('unavailable', words, { cause: error }));
      await this.#abandon(bytes, words);
      return;
    }
    this.#publish(batch, active.segment);
    this.#options.committed(bytes);
  }

  #publish(batch: readonly Waiting[], segment: Segment): void {
    const positions = batch.map(({ append }) => {
      const position = { segment: segment.segment, offset: segment.bytes };
      const empty = segment.bytes === HEADER_BYTES;
      if (empty || append.firstNs < segment.firstReceivedNs) segment.firstReceivedNs = append.firstNs;
      if (empty || append.lastNs > segment.lastReceivedNs) segment.lastReceivedNs = append.lastNs;
      segment.bytes += append.bytes;
      append.durable?.(position);
      return position;
    });
    for (const [index, { resolve }] of batch.entries()) resolve(positions[index] ?? { segment: 0, offset: 0 });
  }

  /** As many of the waiting as fit into the active segment; seals it first when it is full or old. */
  async #takeBatch(): Promise<Waiting[]> {
    const { segmentBytes, segmentAgeMs, clock } = this.#options;
    const active = this.#active?.segment;
    const used = active?.bytes ?? HEADER_BYTES;
    const full = used > HEADER_BYTES && used + (this.#waiting[0]?.append.bytes ?? 0) > segmentBytes;
    const old = active !== undefined && used > HEADER_BYTES && clock.nowMs() - active.createdMs > segmentAgeMs;
    if (full || old) await this.#seal();
    let end = full || old ? HEADER_BYTES : used;
    let count = 0;
    for (const { append } of this.#waiting) {
      if (count > 0 && end + append.bytes > segmentBytes) break;
      end += append.bytes;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  async #create(): Promise<{ file: DiskFile; segment: Segment }> {
    const { disk, folder, kind, clock } = this.#options;
    await this.#cutFailedTail();
    const { number, file } = await this.#createFile();
    const createdMs = clock.nowMs();
    const createdNs = msToNs(createdMs);
    try {
      await file.write([encodeHeader(kind, number, createdNs)], 0);
      await file.fdatasync();
      await disk.syncFolder(folder);
    } catch (error) {
      await file.close().catch(() => undefined);
      await unlinkIfThere(this.#options.disk, segmentPath(this.#options, number)).catch(() => undefined);
      throw error;
    }
    const segment = {
      segment: number,
      createdMs,
      bytes: HEADER_BYTES,
      firstReceivedNs: createdNs,
      lastReceivedNs: createdNs,
      sealed: false,
    };
    this.#segments.set(number, segment);
    this.#nextSegment = number + 1;
    this.#active = { file, segment };
    return this.#active;
  }

  /** A name that an earlier failure left behind is skipped. */
  async #createFile(): Promise<{ number: number; file: DiskFile }> {
    for (; ; this.#nextSegment += 1) {
      assert(this.#nextSegment <= SEGMENT_MAX, 'segment numbers last');
      try {
        return {
          number: this.#nextSegment,
          file: await this.#options.disk.create(segmentPath(this.#options, this.#nextSegment)),
        };
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
    }
  }

  /** Step 3 of the order: the active segment is not to be trusted beyond what was acknowledged. */
  async #abandon(bytesCut: number, reason: string): Promise<void> {
    this.#report(this.#active?.segment.segment ?? this.#nextSegment, bytesCut, reason);
    if (!this.#active) return;
    this.#failed = this.#active;
    this.#active = undefined;
    this.#failed.segment.sealed = true;
    const { segment } = this.#failed.segment;
    await this.#cutFailedTail().catch((error: unknown) => {
      this.#report(segment, 0, `the failed tail cannot be cut off yet: ${describeError(error)}`);
    });
  }

  /** Before this is done nothing is appended: what was never acknowledged may be seen at the very end of the log only. */
  async #cutFailedTail(): Promise<void> {
    if (!this.#failed) return;
    const { file, segment } = this.#failed;
    if (segment.bytes === HEADER_BYTES) {
      await unlinkIfThere(this.#options.disk, segmentPath(this.#options, segment.segment));
      this.#segments.delete(segment.segment);
      this.#nextSegment = segment.segment;
    } else {
      await file.truncate(segment.bytes);
      await file.fdatasync();
    }
    this.#failed = undefined;
    await file.close().catch(() => undefined);
  }

  async #seal(): Promise<void> {
    const active = this.#active;
    if (!active) return;
    this.#active = undefined;
    active.segment.sealed = true;
    // Every byte of it was fsynced with its batch; a failing close can lose nothing.
    await active.file.close().catch(() => undefined);
  }

  #report(segment: number, bytesCut: number, reason: string): void {
    this.#options.report({ segment, bytesCut, reason });
  }
}
