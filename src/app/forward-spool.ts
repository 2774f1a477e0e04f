import { join } from 'node:path';
import type { Clock, Scheduler } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { readChecked, writeChecked } from '../coverage/checked-file.ts';
import { scanLogs } from '../otlp/scan.ts';
import type { Disk } from '../wal/disk.ts';
import type { Frame, StoredFrame } from '../wal/frame.ts';
import { type FramePosition, positionKey } from '../wal/segment-format.ts';
import { Wal } from '../wal/wal.ts';
import type { StageLog } from './stages.ts';

/** Disk is given back in such steps. */
const SEGMENT_BYTES = 16 * 1024 * 1024;
/** They are sent soon after they are written; what has waited long is read from disk. */
const CACHE_BYTES = 8 * 1024 * 1024;
const SEGMENT_AGE_MS = 600_000;

/** The file in the spool's folder that tells up to where all is sent. */
const SENT_FILE = 'sent';
const SENT_FORMAT = 'spantrail-forwarded';

export interface SpoolOptions {
  readonly folder: string;
  readonly bytesMax: number;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly log: StageLog;
  readonly writeFailed: (error: unknown) => void;
}

/**
 * Events that wait to be forwarded: a log of its own in the write-ahead log's format, so that an event is durable before it is
 * acknowledged, and one small file that tells up to where they were taken over. It is written after the Collector's answer, so a
 * crash in between, or a file that is lost, has some sent again: that changes nothing where they arrive.
 */
export class ForwardSpool {
  readonly #options: SpoolOptions;
  readonly #wal: Wal;
  readonly #sentPath: string;
  /** Positions of what waits, as exact numbers, the oldest first from `#head` on. */
  #keys: number[] = [];
  #head = 0;
  #waiting = 0;
  #waitingBytes = 0;
  #isTold = false;

  private constructor(options: SpoolOptions, wal: Wal) {
    this.#options = options;
    this.#wal = wal;
    this.#sentPath = join(options.folder, SENT_FILE);
  }

  static async open(options: SpoolOptions): Promise<ForwardSpool> {
    const { folder, disk, clock, scheduler, log, writeFailed } = options;
    const wal = await Wal.open({
      ...{ folder, disk, clock, scheduler, writeFailed },
      segmentBytes: SEGMENT_BYTES,
      segmentAgeMs: SEGMENT_AGE_MS,
      cacheBytesMax: CACHE_BYTES,
      report: (found) => log.warn(found, 'events that wait to be forwarded: repaired'),
    });
    const spool = new ForwardSpool(options, wal);
    const sentKey = await spool.#readSent();
    await wal.replay((frame) => {
      if (positionKey(frame.position) > sentKey) spool.#add(frame);
    });
    wal.onDurable((frame) => spool.#add(frame));
    return spool;
  }

  /** Events that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Resolves when the frame's events are durable. */
  async append(frame: Frame): Promise<void> {
    if (this.#waitingBytes > this.#options.bytesMax) {
      const words = `${this.#waiting} events wait to be forwarded, as many as forward.waitingBytesMax allows`;
      throw new AppError('unavailable', `${words}; the Collector at forward.endpoint must take them first`);
    }
    await this.#wal.append(frame);
  }

  /** The oldest frames that wait, until they have so many bytes; at least one if any waits. They stay until `sent`. */
  oldest(bytesMax: number): StoredFrame[] {
    const frames: StoredFrame[] = [];
    for (let [at, bytes] = [this.#head, 0]; at < this.#keys.length && bytes < bytesMax; at++) {
      const frame = this.#wal.read(positionOf(this.#keys[at] ?? 0));
      bytes += frame.length;
      frames.push(frame);
    }
    return frames;
  }

  /** The first so many frames need not be sent again. */
  async sent(frames: readonly StoredFrame[]): Promise<void> {
    for (const frame of frames) this.#count(frame, -1);
    this.#head += frames.length;
    if (this.#head * 2 > this.#keys.length) {
      this.#keys = this.#keys.slice(this.#head);
      this.#head = 0;
    }
    const last = frames.at(-1);
    if (last !== undefined) await this.#writeSent(last.position);
  }

  async close(): Promise<void> {
    await this.#wal.close();
  }

  #add(frame: StoredFrame): void {
    this.#keys.push(positionKey(frame.position));
    this.#count(frame, 1);
  }

  #count(frame: StoredFrame, sign: 1 | -1): void {
    const scanned = scanLogs(frame.payload);
    this.#waiting += sign * (scanned.ok ? scanned.items : 0);
    this.#waitingBytes += sign * frame.length;
  }

  async #readSent(): Promise<number> {
    const content = await readChecked(this.#options.disk, this.#sentPath, SENT_FORMAT);
    const [position] = content.kind === 'lines' ? (content.lines as FramePosition[]) : [];
    return position === undefined ? -1 : positionKey(position);
  }

  /** Where it cannot be written, all is sent again after a restart. */
  async #writeSent(position: FramePosition): Promise<void> {
    try {
      await writeChecked(this.#options.disk, this.#sentPath, SENT_FORMAT, [position]);
      const oldest = this.#keys[this.#head];
      const before = oldest === undefined ? position.segment : positionOf(oldest).segment;
      // The newest stays, so that numbers are never used twice.
      for (const { segment } of this.#wal.segments().slice(0, -1)) if (segment < before) await this.#wal.drop(segment);
      this.#isTold = false;
    } catch (error) {
      if (!this.#isTold) this.#options.log.warn({ error }, 'what was forwarded cannot be noted; it may be sent again');
      this.#isTold = true;
    }
  }
}

function positionOf(key: number): FramePosition {
  return { segment: Math.floor(key / 2 ** 32), offset: key % 2 ** 32 };
}
