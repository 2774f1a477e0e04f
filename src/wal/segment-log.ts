import { join } from 'node:path';
import { assert } from '../core/assert.ts';
import { type Clock, msToNs } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { type DiskFile, errnoOf } from './disk.ts';
import type { PieceEncoder } from './piece-encoder.ts';
import {
  currentPath,
  readSegment,
  reportOf,
  type Segment,
  type SegmentFolder,
  unlinkIfThere,
} from './segment-files.ts';
import {
  encodeHeader,
  type FramePosition,
  HEADER_BYTES,
  type RawEntry,
  SEGMENT_MAX,
  type SegmentKind,
  segmentFileName,
} from './segment-format.ts';
import { recoverSegments } from './segment-recovery.ts';
import {
  type Active,
  type Append,
  type Ending,
  endSegment,
  keepPieces,
  together,
  writePieces,
} from './segment-writer.ts';

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
  /** New segments are compressed by it; absent: raw. For one log alone. */
  readonly encoder?: PieceEncoder;
  readonly clock: Clock;
  /** After each fsync of appended entries: their bytes, and how many of them did not go to the disk because they were compressed. */
  readonly committed: (bytes: number, savedBytes: number) => void;
  /** What the file system said when appended bytes could not be made durable. */
  readonly writeFailed?: (error: unknown) => void;
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
  #active: Active | undefined;
  #ending: Ending | undefined;
  #nextSegment = 1;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  readonly #rolls: (() => void)[] = [];
  #closed = false;

  private constructor(options: SegmentLogOptions) {
    this.#options = options;
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
   * Visits every entry that is durable when its segment is reached, oldest first; appends and drops may go on
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
    await unlinkIfThere(this.#options.disk, currentPath(this.#options, known));
    await this.#options.disk.syncFolder(this.#options.folder);
    this.#segments.delete(segment);
  }

  /** Finishes the appends that wait, then closes. Later appends are rejected. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
    await this.#seal();
    await this.#ending?.file.close().catch(() => undefined);
    this.#options.encoder?.restart();
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
    const appends = batch.map(({ append }) => append);
    const bytes = appends.reduce((sum, append) => sum + append.bytes, 0);
    let writtenBytes = bytes;
    try {
      active ??= await this.#create();
      const { compressedBytes } = active.segment;
      if (compressedBytes === undefined) {
        await active.file.write(together(appends).buffers, active.segment.bytes);
        await active.file.fdatasync();
      } else {
        const pieces = await writePieces(active, compressedBytes, appends, this.#options.encoder);
        await active.file.fdatasync();
        keepPieces(active, pieces);
        writtenBytes = (active.segment.compressedBytes ?? 0) - compressedBytes;
      }
    } catch (error) {
      this.#options.writeFailed?.(error);
      const words = `the ${this.#options.kind.words} cannot be written: ${describeError(error)}`;
      for (const { reject } of batch) reject(new AppError('unavailable', words, { cause: error }));
      await this.#abandon(bytes, words);
      return;
    }
    this.#publish(batch, active.segment);
    this.#options.committed(bytes, bytes - writtenBytes);
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

  async #create(): Promise<Active> {
    const { disk, folder, clock, encoder } = this.#options;
    await this.#end();
    const { number, file, path } = await this.#createFile();
    const createdMs = clock.nowMs();
    const createdNs = msToNs(createdMs);
    encoder?.restart();
    try {
      await file.write([encodeHeader(this.#form, number, createdNs)], 0);
      await file.fdatasync();
      await disk.syncFolder(folder);
    } catch (error) {
      await file.close().catch(() => undefined);
      await unlinkIfThere(disk, path).catch(() => undefined);
      throw error;
    }
    const segment = {
      segment: number,
      createdMs,
      bytes: HEADER_BYTES,
      ...(encoder && { compressedBytes: HEADER_BYTES }),
      firstReceivedNs: createdNs,
      lastReceivedNs: createdNs,
      sealed: false,
    };
    this.#segments.set(number, segment);
    this.#nextSegment = number + 1;
    this.#active = { file, segment, blocks: [] };
    return this.#active;
  }

  /** The kind of file that new segments are. */
  get #form(): SegmentKind {
    const { kind, encoder } = this.#options;
    return encoder ? (kind.compressed ?? kind) : kind;
  }

  /** A name that an earlier failure left behind is skipped. */
  async #createFile(): Promise<{ number: number; file: DiskFile; path: string }> {
    const { disk, folder } = this.#options;
    for (; ; this.#nextSegment += 1) {
      assert(this.#nextSegment <= SEGMENT_MAX, 'segment numbers last');
      const path = join(folder, segmentFileName(this.#form, this.#nextSegment));
      try {
        return { number: this.#nextSegment, file: await disk.create(path), path };
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
    }
  }

  /** Step 3 of the order: the active segment is not to be trusted beyond what was acknowledged. */
  async #abandon(bytesCut: number, reason: string): Promise<void> {
    this.#report(this.#active?.segment.segment ?? this.#nextSegment, bytesCut, reason);
    if (this.#active) await this.#endActive({ isFailed: true });
  }

  /** Step 5 of the order, too; a raw segment is closed only. */
  async #seal(): Promise<void> {
    if (this.#active) await this.#endActive({ isFailed: false });
    // What could not be done then may be possible now.
    else await this.#end().catch(() => undefined);
  }

  async #endActive({ isFailed }: { isFailed: boolean }): Promise<void> {
    const active = this.#active;
    if (!active) return;
    this.#active = undefined;
    active.segment.sealed = true;
    this.#ending = { ...active, isFailed };
    await this.#end().catch((error: unknown) => {
      const what = isFailed ? 'the failed tail cannot be cut off yet' : 'it cannot be closed yet';
      this.#report(active.segment.segment, 0, `${what}: ${describeError(error)}`);
    });
  }

  /** Before this is done nothing is appended: what was never acknowledged may be seen at the very end of the log only. */
  async #end(): Promise<void> {
    if (!this.#ending) return;
    const { file, segment, isFailed } = this.#ending;
    if (isFailed && segment.bytes === HEADER_BYTES) {
      await unlinkIfThere(this.#options.disk, currentPath(this.#options, segment));
      this.#segments.delete(segment.segment);
      this.#nextSegment = segment.segment;
    } else await endSegment(this.#ending);
    this.#ending = undefined;
    // Every byte of it was fsynced; a failing close can lose nothing.
    await file.close().catch(() => undefined);
  }

  #report(segment: number, bytesCut: number, reason: string): void {
    this.#options.report({ segment, bytesCut, reason });
  }
}
