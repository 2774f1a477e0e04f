import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import type { SessionOwner } from '../core/evidence.ts';
import type { KnownSession, SessionOwners } from '../receive/session-owners.ts';
import { type Disk, type DiskFile, errnoOf } from '../wal/disk.ts';
import type { StageLog } from './stages.ts';

/**
 * The file `sessions` of the data folder, so that a restart knows whose session which is: a first line that names the format and
 * the key of the hashes, then a JSON list a line: namespace, hash, seen, ended (0 while it goes on), owner (null for none).
 * The last line about a session counts. Lines are appended without an fsync: a crash of the machine may lose the last of them,
 * and then some requests name nobody until their session is seen again. It is written anew when most of it is outdated.
 */
const FORMAT = 'spantrail-sessions';
const VERSION = 1;

/** After a failed write, such as on a full disk, all of it is written again, but not sooner. */
const RETRY_MS = 60_000;

/** A smaller file is not worth writing anew. */
const OUTDATED_LINES_MIN = 10_000;

export interface SessionLogOptions {
  readonly folder: string;
  readonly disk: Disk;
  /** Of the hashes: with another one what is in the file means nothing. */
  readonly key: Uint8Array;
  readonly owners: SessionOwners;
  readonly clock: Clock;
  readonly log: StageLog;
}

export class SessionLog {
  readonly #options: SessionLogOptions;
  readonly #path: string;
  #file: DiskFile | undefined;
  #bytes = 0;
  #lines = 0;
  #waiting: KnownSession[] = [];
  #work: Promise<void> = Promise.resolve();
  #isWorking = false;
  /** When a write failed; undefined while they do not. */
  #failedMs: number | undefined;

  private constructor(options: SessionLogOptions) {
    this.#options = options;
    this.#path = join(options.folder, 'sessions');
  }

  /** Restores the owners from the file. A line that cannot be read is skipped; a file of another key is begun anew. */
  static async open(options: SessionLogOptions): Promise<SessionLog> {
    const opened = new SessionLog(options);
    const [head, ...lines] = (await opened.#read()).split('\n');
    if (head === opened.#head()) for (const line of lines) opened.#restore(line);
    await opened.#do(() => opened.#rewrite());
    return opened;
  }

  /** Written soon, in the background. */
  append(session: KnownSession): void {
    if (this.#failedMs !== undefined && this.#options.clock.nowMs() - this.#failedMs < RETRY_MS) return;
    this.#waiting.push(session);
    if (this.#isWorking) return;
    this.#isWorking = true;
    this.#work = this.#do(() => this.#write());
  }

  async close(): Promise<void> {
    await this.#work;
    if (this.#failedMs !== undefined) await this.#do(() => this.#rewrite());
    await this.#file?.close();
    this.#file = undefined;
  }

  /** What cannot be written is still known until the end of this run. */
  async #do(step: () => Promise<void>): Promise<void> {
    try {
      await step();
      this.#failedMs = undefined;
    } catch (error) {
      await this.#file?.close().catch(() => undefined);
      // The next attempt writes all of it.
      this.#file = undefined;
      this.#waiting = [];
      const words = 'owners of sessions cannot be written; they are known until the next restart';
      if (this.#failedMs === undefined) this.#options.log.warn({ error }, words);
      this.#failedMs = this.#options.clock.nowMs();
    }
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) await this.#writeWaiting();
    } finally {
      this.#isWorking = false;
    }
  }

  async #writeWaiting(): Promise<void> {
    const { size } = this.#options.owners;
    const isOutdated = this.#lines - size > Math.max(OUTDATED_LINES_MIN, size);
    if (this.#file === undefined || isOutdated) return this.#rewrite();
    const sessions = this.#waiting;
    this.#waiting = [];
    const bytes = Buffer.from(sessions.map(lineOf).join(''));
    await this.#file.write([bytes], this.#bytes);
    this.#bytes += bytes.length;
    this.#lines += sessions.length;
  }

  /** The new file is durable under another name before it takes the old one's place. */
  async #rewrite(): Promise<void> {
    const { disk, owners, folder } = this.#options;
    this.#waiting = [];
    const lines = [...owners.all()];
    const bytes = Buffer.from(`${this.#head()}\n${lines.map(lineOf).join('')}`);
    const temporary = `${this.#path}.new`;
    await disk.unlink(temporary).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    const file = await disk.create(temporary);
    try {
      await file.write([bytes], 0);
      await file.fdatasync();
      await disk.rename(temporary, this.#path);
      await disk.syncFolder(folder);
    } catch (error) {
      await file.close();
      throw error;
    }
    await this.#file?.close();
    this.#file = file;
    this.#bytes = bytes.length;
    this.#lines = lines.length;
  }

  #head(): string {
    const key = createHash('sha256').update('sessions').update(this.#options.key).digest('hex').slice(0, 16);
    return JSON.stringify({ format: FORMAT, version: VERSION, key });
  }

  async #read(): Promise<string> {
    try {
      const file = await this.#options.disk.openToRead(this.#path);
      try {
        const bytes = Buffer.alloc(await file.size());
        return bytes.toString('utf8', 0, await file.read(bytes, 0));
      } finally {
        await file.close();
      }
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        this.#options.log.warn({ error }, 'owners of sessions cannot be read; they have to be seen again');
      }
      return '';
    }
  }

  #restore(line: string): void {
    let values: unknown;
    try {
      values = JSON.parse(line);
    } catch {
      // The last line after a crash, or the empty one at the end.
      return;
    }
    if (!Array.isArray(values)) return;
    const [namespace, id, seenMs, endedMs, owner] = values as unknown[];
    if (typeof namespace !== 'string' || typeof id !== 'string' || typeof seenMs !== 'number') return;
    this.#options.owners.restore({
      ...{ namespace, id, seenMs },
      ...(typeof endedMs === 'number' && endedMs > 0 ? { endedMs } : {}),
      ...(isOwner(owner) ? { owner } : {}),
    });
  }
}

function lineOf({ namespace, id, seenMs, endedMs, owner }: KnownSession): string {
  return `${JSON.stringify([namespace, id, seenMs, endedMs ?? 0, owner ?? null])}\n`;
}

function isOwner(value: unknown): value is SessionOwner {
  return typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string';
}
