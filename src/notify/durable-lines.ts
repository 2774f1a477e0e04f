import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { AppError, describeError } from '../core/errors.ts';
import { type Disk, type DiskFile, errnoOf } from '../wal/disk.ts';

/** A smaller file is not worth writing anew. */
const OUTDATED_LINES_MIN = 1000;

export interface DurableLinesOptions {
  readonly path: string;
  /** First line of the file: what it is. */
  readonly format: string;
  readonly disk: Disk;
  /** Everything that the lines so far come to, as lines: what the file is begun anew with. */
  snapshot(): readonly unknown[];
  /** Lines that it would have, about. */
  size(): number;
  report(words: string): void;
}

/**
 * A file of JSON values, one a line, each after its checksum; what was appended is on the medium when `append` resolves. Appends
 * that wait share one fsync. When one fails nobody knows what is on the medium: then the file is begun anew from the snapshot
 * before the next one, and likewise when most of its lines are outdated. So whoever appends has what the lines say in memory
 * first: it is in the snapshot then. After a crash a line is there or not, but of several lines of one append only the first
 * may be.
 */
export class DurableLines {
  readonly #options: DurableLinesOptions;
  #file: DiskFile | undefined;
  #bytes = 0;
  #lines = 0;
  #mustRewrite = true;
  #waiting: { readonly lines: readonly unknown[]; readonly done: PromiseWithResolvers<void> }[] = [];
  #work: Promise<void> = Promise.resolve();
  #isWorking = false;
  #isClosed = false;

  private constructor(options: DurableLinesOptions) {
    this.#options = options;
  }

  /** What was in the file; damaged lines are reported and left out, a torn last one only left out. */
  static async open(options: DurableLinesOptions): Promise<{ readonly file: DurableLines; readonly lines: unknown[] }> {
    const opened = new DurableLines(options);
    return { file: opened, lines: await opened.#load() };
  }

  /** No lines: resolves when all before are durable. */
  append(lines: readonly unknown[]): Promise<void> {
    // The folder may be another process's by now.
    if (this.#isClosed) return Promise.reject(new AppError('unavailable', `${this.#options.path} is closed`));
    if (lines.length === 0 && !this.#isWorking && !this.#mustRewrite) return Promise.resolve();
    const done = Promise.withResolvers<void>();
    this.#waiting.push({ lines, done });
    if (!this.#isWorking) {
      this.#isWorking = true;
      this.#work = this.#run();
    }
    return done.promise;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#work;
    await this.#file?.close();
    this.#file = undefined;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting;
      this.#waiting = [];
      try {
        await this.#write(waiting.flatMap(({ lines }) => lines));
        for (const { done } of waiting) done.resolve();
      } catch (cause) {
        this.#mustRewrite = true;
        const words = `${this.#options.path} cannot be written: ${describeError(cause)}`;
        for (const { done } of waiting) done.reject(new AppError('unavailable', words, { cause }));
      }
    }
    this.#isWorking = false;
  }

  async #write(lines: readonly unknown[]): Promise<void> {
    if (this.#mustRewrite || this.#file === undefined) return this.#rewrite();
    if (this.#lines > OUTDATED_LINES_MIN + 2 * this.#options.size()) return this.#rewrite();
    const bytes = Buffer.from(lines.map(lineOf).join(''));
    await this.#file.write([bytes], this.#bytes);
    await this.#file.fdatasync();
    this.#bytes += bytes.length;
    this.#lines += lines.length;
  }

  /** The new file is durable under another name before it takes the old one's place. */
  async #rewrite(): Promise<void> {
    const { disk, path, format, snapshot } = this.#options;
    const lines = snapshot();
    const temporary = `${path}.new`;
    await disk.unlink(temporary).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    const bytes = Buffer.from(`${format}\n${lines.map(lineOf).join('')}`);
    const file = await disk.create(temporary);
    try {
      await file.write([bytes], 0);
      await file.fdatasync();
      await disk.rename(temporary, path);
      await disk.syncFolder(dirname(path));
    } catch (error) {
      await file.close();
      throw error;
    }
    await this.#file?.close().catch(() => undefined);
    this.#file = file;
    this.#bytes = bytes.length;
    this.#lines = lines.length;
    this.#mustRewrite = false;
  }

  async #load(): Promise<unknown[]> {
    const { disk, path, format, report } = this.#options;
    const [head, ...lines] = (await readWhole(disk, path)).split('\n');
    if (head !== format) {
      if (head !== '' || lines.length > 0) {
        const aside = `${path}.unreadable`;
        await disk.rename(path, aside);
        await disk.syncFolder(dirname(path));
        report(`${path} is no ${format}; it is kept as ${aside}, and begun anew`);
      }
      return [];
    }
    const last = lines.pop();
    const values: unknown[] = [];
    let damaged = 0;
    for (const line of lines) {
      const value = readLine(line);
      if (value === undefined) damaged++;
      else values.push(value);
    }
    if (damaged > 0) report(`${damaged} lines of ${path} are damaged; what they said is lost`);
    // What is appended must not follow half a line; a file without one can go on.
    if (damaged > 0 || last !== '') return values;
    this.#file = await disk.open(path);
    this.#bytes = await this.#file.size();
    this.#lines = lines.length;
    this.#mustRewrite = false;
    return values;
  }
}

async function readWhole(disk: Disk, path: string): Promise<string> {
  try {
    const file = await disk.openToRead(path);
    try {
      const bytes = Buffer.alloc(await file.size());
      return bytes.toString('utf8', 0, await file.read(bytes, 0));
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

function lineOf(value: unknown): string {
  const text = JSON.stringify(value);
  return `${checksum(text)} ${text}\n`;
}

function readLine(line: string): unknown {
  const text = line.slice(9);
  if (line.slice(0, 8) !== checksum(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}
