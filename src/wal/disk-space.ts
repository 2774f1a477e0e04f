import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Scheduler, systemScheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { type Disk, type DiskFile, errnoOf, nodeDisk } from './disk.ts';

export interface DiskSpaceOptions {
  /** The data folder. */
  readonly folder: string;
  /** Kept as a file that takes its bytes, and given back when the disk is full. 0 keeps none. */
  readonly reserveBytes: number;
  /** Less free space than this is short. */
  readonly freeBytesMin: number;
  readonly disk?: Disk;
  readonly scheduler?: Scheduler;
  readonly counters?: Counters;
  readonly report?: (isShort: boolean, words: string) => void;
}

export interface DiskSpaceStatus {
  readonly freeBytes: number;
  /** Evidence is to be refused until there is room again. */
  readonly isShort: boolean;
  /** Bytes to be freed until it is no longer short; 0 when it is not. */
  readonly missingBytes: number;
}

const RESERVE_NAME = 'reserve';
const CHECK_INTERVAL_MS = 250;
/** Short ends when there is this much more room than the least, so that it does not flicker. */
const RESUME_FACTOR = 1.25;
/**
 * After a write met a full disk, room is believed in only this much later: what the figures do not show, such as a quota, must
 * not have the reserve written and given back all the time.
 */
const FULL_HOLD_MS = 2_000;
/** The reserve is given back when less than this share of it is free besides. */
const FULL_SHARE = 0.25;
const MEBIBYTE = 1024 * 1024;
/** No smaller part of a file do file systems know again. */
const PAGE = 4096;

/**
 * Watches the free space of the data folder's file system and keeps a reserve there, for the moment when another program or
 * the store has filled the disk: the reserve goes, so that what was acknowledged can still be settled, journalled and stored,
 * and the process can stop clean. It is made again when there is room.
 *
 * The reserve's bytes are written, because a hole takes no space, random, because a file system may compress, and no two pages of
 * them alike, because it may keep only once what is the same. A file of less than its length is one that was interrupted: it is
 * filled up.
 */
export class DiskSpace {
  readonly #options: DiskSpaceOptions;
  readonly #disk: Disk;
  readonly #scheduler: Scheduler;
  readonly #path: string;
  #freeBytes = Number.POSITIVE_INFINITY;
  #isReserved = false;
  #isFull = false;
  #fullUntilMs = 0;
  #isShort = false;
  /** As told last. */
  #wasShort = false;
  /** There may be a file, whole or not. */
  #isThere = true;
  #isClosed = false;
  /** By what was tried: what it said when it failed last. */
  readonly #failures = new Map<string, string>();
  #checking: Promise<void> | undefined;
  #cancel = () => {};

  constructor(options: DiskSpaceOptions) {
    this.#options = options;
    this.#disk = options.disk ?? nodeDisk;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#path = join(options.folder, RESERVE_NAME);
  }

  /** Looks at once, then again and again. The reserve of a first start is written in the background. */
  static async open(options: DiskSpaceOptions): Promise<DiskSpace> {
    const space = new DiskSpace(options);
    space.#isReserved = options.reserveBytes === 0 || (await space.#reserveLength()) >= options.reserveBytes;
    await space.#measure();
    space.#isShort = space.#freeBytes < options.freeBytesMin;
    space.#show();
    space.#again();
    return space;
  }

  /** As of the last look, a moment ago. */
  status(): DiskSpaceStatus {
    const missingBytes = this.#isShort ? Math.max(1, this.#wantedBytes() - this.#freeBytes) : 0;
    return { freeBytes: this.#freeBytes, isShort: this.#isShort, missingBytes };
  }

  /** A write met a full disk. */
  noteFull(): void {
    this.#isFull = true;
    this.#isShort = true;
    this.#fullUntilMs = this.#scheduler.elapsedMs() + FULL_HOLD_MS;
    void this.check();
  }

  /** Looks now. */
  check(): Promise<void> {
    this.#checking ??= this.#check().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  /** The reserve stays. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.#checking;
  }

  #again(): void {
    if (this.#isClosed) return;
    this.#cancel = this.#scheduler.after(CHECK_INTERVAL_MS, () => void this.check().then(() => this.#again()));
  }

  async #check(): Promise<void> {
    await this.#measure();
    const isFull = this.#isFull || this.#freeBytes < this.#options.reserveBytes * FULL_SHARE;
    this.#isFull = false;
    if (isFull && this.#isThere) await this.#release();
    if (isFull || this.#freeBytes < this.#options.freeBytesMin) this.#isShort = true;
    else if (this.#scheduler.elapsedMs() >= this.#fullUntilMs) await this.#useRoom();
    this.#show();
  }

  /** First for the reserve, then for evidence. */
  async #useRoom(): Promise<void> {
    if (this.#freeBytes < this.#wantedBytes()) return;
    if (!this.#isReserved) await this.#reserve();
    // A write may have met a full disk meanwhile.
    if (this.#isReserved && !this.#isFull) this.#isShort = false;
  }

  #wantedBytes(): number {
    const { reserveBytes, freeBytesMin } = this.#options;
    return freeBytesMin * (this.#isShort ? RESUME_FACTOR : 1) + (this.#isReserved ? 0 : reserveBytes);
  }

  #show(): void {
    const { counters } = this.#options;
    if (this.#isShort !== this.#wasShort) this.#tell();
    this.#wasShort = this.#isShort;
    if (this.#freeBytes !== Number.POSITIVE_INFINITY) counters?.set('disk_free_bytes', this.#freeBytes);
    counters?.set('disk_short', this.#isShort ? 1 : 0);
  }

  #tell(): void {
    const free = `${Math.floor(this.#freeBytes / MEBIBYTE)} MiB are free in the file system of ${this.#options.folder}`;
    if (this.#isShort) {
      const needed = Math.ceil(this.#wantedBytes() / MEBIBYTE);
      this.#options.report?.(
        true,
        `the disk is nearly full, evidence is refused until ${needed} MiB are free: ${free}`,
      );
    } else this.#options.report?.(false, `there is room on the disk, evidence is accepted: ${free}`);
  }

  async #measure(): Promise<void> {
    await this.#trying('the free space of the disk cannot be told', async () => {
      this.#freeBytes = await this.#disk.freeBytes(this.#options.folder);
    });
  }

  async #release(): Promise<void> {
    await this.#trying('the reserve cannot be given back', async () => {
      this.#isReserved = false;
      await this.#disk.unlink(this.#path).catch((error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error;
      });
      this.#isThere = false;
      await this.#disk.syncFolder(this.#options.folder);
      this.#freeBytes = await this.#disk.freeBytes(this.#options.folder);
    });
  }

  async #reserve(): Promise<void> {
    await this.#trying('the reserve cannot be made', async () => {
      const file = await this.#openReserve();
      this.#isThere = true;
      try {
        await this.#fill(file);
      } catch (error) {
        // Half a reserve only takes what others need now.
        await this.#disk.unlink(this.#path);
        this.#fullUntilMs = this.#scheduler.elapsedMs() + FULL_HOLD_MS;
        throw error;
      } finally {
        await file.close();
      }
      await this.#disk.syncFolder(this.#options.folder);
      this.#freeBytes = await this.#disk.freeBytes(this.#options.folder);
      this.#isReserved = !this.#isClosed;
    });
  }

  async #fill(file: DiskFile): Promise<void> {
    const { reserveBytes } = this.#options;
    const block = randomBytes(MEBIBYTE);
    for (let at = await file.size(); at < reserveBytes && !this.#isClosed; at += MEBIBYTE) {
      for (let page = 0; page < MEBIBYTE; page += PAGE) block.writeDoubleLE(at + page, page);
      await file.write([block.subarray(0, reserveBytes - at)], at);
    }
    await file.fdatasync();
  }

  async #openReserve(): Promise<DiskFile> {
    try {
      return await this.#disk.open(this.#path);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      return this.#disk.create(this.#path);
    }
  }

  async #reserveLength(): Promise<number> {
    try {
      const file = await this.#disk.openToRead(this.#path);
      try {
        return await file.size();
      } finally {
        await file.close();
      }
    } catch {
      return 0;
    }
  }

  /** What fails is tried again at the next look, and said when it is not what failed before. */
  async #trying(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
      this.#failures.delete(what);
    } catch (error) {
      const words = `${what}: ${describeError(error)}`;
      if (words !== this.#failures.get(what)) this.#options.report?.(true, words);
      this.#failures.set(what, words);
    }
  }
}
