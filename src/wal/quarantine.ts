import { dirname, join } from 'node:path';
import { type Clock, formatTimestamp, msToNs, systemClock } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { type Disk, type DiskFile, errnoOf, nodeDisk } from './disk.ts';
import { QuarantineIndex } from './quarantine-index.ts';
import { entryLine, headerText, keyOf, parseLine, type QuarantineLine, resolutionLine } from './quarantine-lines.ts';

/** Something that could not go on, with everything needed to look at it and to send it again. */
export interface QuarantineEntry {
  /** Which stage set it aside, e.g. `store`. */
  readonly stage: string;
  readonly reason: string;
  /** The record's id, or where the evidence lies. */
  readonly id: string;
  /** JSON; bigints are written as text, bytes as base64. */
  readonly body: unknown;
}

/** `retried`: written or settled again. `dropped`: given up by a person, who said why. */
export type Resolution = 'retried' | 'dropped';

/** An entry as it lies in the quarantine. The same stage, id and reason are one entry, whose key stays. */
export interface KeptEntry extends Omit<QuarantineEntry, 'body'> {
  readonly key: string;
  /** RFC 3339. */
  readonly addedAt: string;
  /** Absent once the entry is resolved. */
  readonly body?: unknown;
  readonly resolved?: { readonly how: Resolution; readonly at: string; readonly why: string };
}

export interface QuarantinePage {
  readonly entries: readonly KeptEntry[];
  /** Key of the last entry, when there are more. */
  readonly next?: string;
}

export interface QuarantineStatus {
  readonly open: number;
  /** Bytes of what is open, and how many there may be before no more is taken. */
  readonly bytes: number;
  readonly bytesMax: number;
  /** Lines of the file that cannot be read; they are kept as they are. */
  readonly damaged: number;
}

export interface QuarantineOptions {
  readonly disk?: Disk;
  readonly clock?: Clock;
  readonly counters?: Counters;
  /** Default 256 MiB. */
  readonly bytesMax?: number;
  /** What the file system said when an entry could not be made durable. */
  readonly writeFailed?: (error: unknown) => void;
  /** Damaged lines: for the log. */
  readonly report?: (found: { readonly file: string; readonly offset: number; readonly bytes: number }) => void;
}

const READ_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

/** Lines that are written together when the file is written anew. */
const LINES_AT_ONCE = 100;

/** Open entries at most, whatever their bytes: each has a place in memory. */
const OPEN_MAX = 100_000;

/** Resolved entries that stay listed; older ones live on as totals. */
const RESOLVED_MAX = 10_000;

/** The file is written anew when more than half of it, and more than this, is out of use. */
const UNUSED_BYTES_MIN = 1024 * 1024;

/**
 * What was set aside after its acknowledgement: an NDJSON file that people can read with any tool. Lines are only ever
 * appended: an entry, the same entry with a newer body, or how it was resolved. What is resolved gives its space back when
 * the file is written anew: temporary file → fdatasync → rename → fsync of the folder. A crash in between leaves
 * the old file, whole, and a temporary one that the next open removes.
 */
export class Quarantine {
  readonly #folder: string;
  readonly #options: QuarantineOptions;
  /** A failed addition may still stand behind what counts. */
  #isTailUncut = false;
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #counters: Counters | undefined;
  readonly #bytesMax: number;
  #file: DiskFile;
  #bytes: number;
  #index: QuarantineIndex;
  /** The file's name may not be on the medium: without it, what is appended would be lost with a loss of power. */
  #isNameUnsynced = false;
  /** How often each was added since the start, when it was open already. */
  readonly #repeats = new Map<string, number>();
  /** One change or look at a time, in order. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(
    folder: string,
    options: QuarantineOptions,
    file: DiskFile,
    bytes: number,
    index: QuarantineIndex,
  ) {
    this.#folder = folder;
    this.#options = options;
    this.#disk = options.disk ?? nodeDisk;
    this.#clock = options.clock ?? systemClock;
    this.#counters = options.counters;
    this.#bytesMax = options.bytesMax ?? 256 * 1024 * 1024;
    this.#file = file;
    this.#bytes = bytes;
    this.#index = index;
  }

  /**
   * Creates `quarantine.ndjson` in the folder, or opens it and cuts off a line that a crash left unfinished. Throws AppError
   * `storage` when a newer program wrote it.
   */
  static async open(folder: string, options: QuarantineOptions = {}): Promise<Quarantine> {
    const { disk = nodeDisk, report } = options;
    await disk.makeFolder(folder);
    await disk.syncFolder(dirname(folder));
    await disk.unlink(temporaryPath(folder)).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    const path = filePath(folder);
    const file = await disk.create(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
      return disk.open(path);
    });
    await disk.syncFolder(folder);
    const size = await file.size();
    const index = new QuarantineIndex();
    let end = 0;
    for await (const text of linesOf(file, size)) {
      const place = { offset: end, length: text.length + 1 };
      const line = parseLine(text, path);
      if (line === undefined) report?.({ file: path, offset: end, bytes: text.length });
      index.take(line, place);
      end += text.length + 1;
    }
    if (end < size) await file.truncate(end);
    const quarantine = new Quarantine(folder, options, file, end, index);
    await quarantine.#tidy().catch(() => undefined);
    quarantine.#publish();
    return quarantine;
  }

  /**
   * Resolves when the entries are durable. What is there already, open and the same, is not added again; with another body
   * it takes the place of the older. Rejects with `unavailable` when the disk fails, or when the quarantine is full: then
   * nothing of it is added, and whoever adds keeps what he has.
   */
  add(entries: readonly QuarantineEntry[]): Promise<void> {
    return this.#inTurn(async () => {
      if (entries.length === 0) return;
      await this.#checkRoom();
      const addedAt = this.#now();
      const lines = new Map<string, { text: Buffer; line: QuarantineLine }>();
      for (const { stage, reason, id, body } of entries) {
        const key = keyOf({ stage, reason, id });
        const text = entryLine({ key, stage, id, reason, addedAt, body });
        if (!(await this.#holds(key, text))) {
          lines.set(key, { text, line: { kind: 'entry', entry: { key, stage, id, reason, addedAt } } });
        }
      }
      const added = [...lines.values()];
      await this.#append(
        added.map(({ text }) => text),
        added.map(({ line }) => line),
      );
    });
  }

  /** Undefined when there is no such entry (any more). */
  get(key: string): Promise<KeptEntry | undefined> {
    return this.#inTurn(() => this.#read(key));
  }

  /** Entries in the order in which they came, without their bodies. */
  page(options: {
    readonly isOpen?: boolean;
    readonly stage?: string | undefined;
    readonly limit: number;
    readonly after?: string | undefined;
  }): Promise<QuarantinePage> {
    const { limit } = options;
    return this.#inTurn(async () => {
      const keys = this.#index.keys(options, limit + 1);
      if (keys === undefined) throw new AppError('bad_request', 'the page before is gone; start again without cursor');
      const entries: KeptEntry[] = [];
      for (const key of keys.slice(0, limit)) {
        const { body: _, ...entry } = (await this.#read(key)) ?? {};
        if ('key' in entry) entries.push(entry as KeptEntry);
      }
      const last = entries.at(-1)?.key;
      return keys.length > limit && last !== undefined ? { entries, next: last } : { entries };
    });
  }

  /** How often an open entry was set aside again: it grows when a second try fails as the first one did. */
  repeatsOf(key: string): number {
    return this.#repeats.get(key) ?? 0;
  }

  /**
   * Durable when it resolves. False when no such entry is open, or when it was set aside again since `repeats` was told by
   * `repeatsOf`.
   */
  resolve(key: string, how: Resolution, why: string, repeats = this.repeatsOf(key)): Promise<boolean> {
    return this.#inTurn(async () => {
      if (repeats !== this.repeatsOf(key)) return false;
      const entry = this.#index.isOpen(key) ? await this.#read(key) : undefined;
      if (entry === undefined) return false;
      const { body: _, ...rest } = entry;
      const resolved = { ...rest, resolved: { how, at: this.#now(), why } };
      this.#repeats.delete(key);
      await this.#append([resolutionLine(resolved)], [{ kind: 'resolution', entry: resolved }]);
      // The entry is resolved; that its space could not be had is told by the next change.
      await this.#tidy().catch(() => undefined);
      return true;
    });
  }

  status(): QuarantineStatus {
    const { openCount, openBytes, damagedCount } = this.#index;
    return { open: openCount, bytes: openBytes, bytesMax: this.#bytesMax, damaged: damagedCount };
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#file.close();
  }

  async #checkRoom(): Promise<void> {
    const { open, bytes } = this.status();
    if (open < OPEN_MAX && bytes < this.#bytesMax) return;
    throw new AppError(
      'unavailable',
      `the quarantine is full (${open} entries, ${bytes} bytes): nothing more is set aside until some are retried or dropped, see "spantrail quarantine list" and the setting quarantine.bytesMax`,
    );
  }

  /** Is this very entry open already? Its time of arrival does not matter. */
  async #holds(key: string, text: Buffer): Promise<boolean> {
    if (!this.#index.isOpen(key)) return false;
    this.#repeats.set(key, this.repeatsOf(key) + 1);
    const held = await this.#readLine(key);
    const bodyOf = (line: Buffer) => line.subarray(line.indexOf('"body":'));
    return held !== undefined && bodyOf(held).equals(bodyOf(text));
  }

  async #read(key: string): Promise<KeptEntry | undefined> {
    const text = await this.#readLine(key);
    const line = text && parseLine(text.subarray(0, -1), filePath(this.#folder));
    return line && line.kind !== 'header' ? line.entry : undefined;
  }

  async #readLine(key: string): Promise<Buffer | undefined> {
    const place = this.#index.placeOf(key);
    if (place === undefined) return undefined;
    const text = Buffer.allocUnsafe(place.length);
    const got = await this.#file.read(text, place.offset);
    if (got < place.length) throw new AppError('storage', `${filePath(this.#folder)} was cut by somebody else`);
    return text;
  }

  async #append(texts: readonly Buffer[], lines: readonly QuarantineLine[]): Promise<void> {
    if (texts.length === 0) return;
    const header = this.#bytes === 0 ? Buffer.from(headerText([])) : Buffer.alloc(0);
    try {
      if (this.#isNameUnsynced) await this.#syncName();
      await this.#cutFailedTail();
      await this.#file.write([header, ...texts], this.#bytes);
      await this.#file.fdatasync();
    } catch (error) {
      this.#options.writeFailed?.(error);
      this.#isTailUncut = true;
      await this.#cutFailedTail().catch(() => undefined);
      throw new AppError('unavailable', `the quarantine cannot be written: ${describeError(error)}`, { cause: error });
    }
    this.#bytes += header.length;
    for (const [at, text] of texts.entries()) {
      this.#index.take(lines[at], { offset: this.#bytes, length: text.length });
      this.#bytes += text.length;
    }
    this.#publish();
  }

  /** Before this is done nothing is added: what would stand behind the next lines must not be read as lines. */
  async #cutFailedTail(): Promise<void> {
    if (!this.#isTailUncut) return;
    await this.#file.truncate(this.#bytes);
    await this.#file.fdatasync();
    this.#isTailUncut = false;
  }

  /** Writes the file anew when much of it is out of use. */
  async #tidy(): Promise<void> {
    const isLoose = this.#bytes - this.#index.usedBytes > Math.max(UNUSED_BYTES_MIN, this.#bytes / 2);
    if (!isLoose && this.#index.resolvedCount < 2 * RESOLVED_MAX) return;
    const kept = this.#index.keep(RESOLVED_MAX);
    const path = temporaryPath(this.#folder);
    const file = await this.#disk.create(path);
    const index = new QuarantineIndex();
    let bytes = 0;
    let waiting: Buffer[] = [];
    try {
      const write = async () => {
        await file.write(waiting, bytes);
        bytes = waiting.reduce((sum, { length }) => sum + length, bytes);
        waiting = [];
      };
      const take = async (text: Buffer) => {
        const offset = waiting.reduce((sum, { length }) => sum + length, bytes);
        index.take(parseLine(text.subarray(0, -1), path), { offset, length: text.length });
        if (waiting.push(text) >= LINES_AT_ONCE || text.length > READ_BYTES) await write();
      };
      await take(Buffer.from(headerText(kept.totals)));
      for (const { offset, length } of kept.places) {
        const text = Buffer.allocUnsafe(length);
        await this.#file.read(text, offset);
        await take(text);
      }
      await write();
      await file.fdatasync();
      await this.#disk.rename(path, filePath(this.#folder));
    } catch (error) {
      await file.close().catch(() => undefined);
      await this.#disk.unlink(path).catch(() => undefined);
      throw error;
    }
    const old = this.#file;
    [this.#file, this.#bytes, this.#index] = [file, bytes, index];
    this.#isNameUnsynced = true;
    await old.close().catch(() => undefined);
    await this.#syncName();
  }

  async #syncName(): Promise<void> {
    await this.#disk.syncFolder(this.#folder);
    this.#isNameUnsynced = false;
  }

  #publish(): void {
    const { totals, openByStage, openBytes } = this.#index;
    for (const { stage, how, count } of totals) this.#counters?.set('quarantine_resolved', count, { stage, how });
    for (const [stage, count] of openByStage) this.#counters?.set('quarantine_open', count, { stage });
    this.#counters?.set('quarantine_bytes', openBytes);
  }

  #now(): string {
    return formatTimestamp(msToNs(this.#clock.nowMs()));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function filePath(folder: string): string {
  return join(folder, 'quarantine.ndjson');
}

function temporaryPath(folder: string): string {
  return join(folder, 'quarantine.ndjson.new');
}

/** The finished lines in the first `size` bytes, without their line ends. */
async function* linesOf(file: DiskFile, size: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  for (let offset = 0; offset < size; offset += READ_BYTES) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, size - offset));
    const read = chunk.subarray(0, await file.read(chunk, offset));
    let start = 0;
    for (let end = read.indexOf(NEWLINE); end >= 0; end = read.indexOf(NEWLINE, start)) {
      parts.push(read.subarray(start, end));
      yield Buffer.concat(parts);
      parts = [];
      start = end + 1;
    }
    parts.push(read.subarray(start));
  }
}
