import { join } from 'node:path';
import { AppError, describeError } from '../core/errors.ts';
import { type Disk, type DiskFile, errnoOf, nodeDisk } from './disk.ts';

/** Something that could not go on, with everything needed to look at it and to send it again. */
export interface QuarantineEntry {
  /** Which stage set it aside, e.g. `store`. */
  readonly stage: string;
  readonly reason: string;
  readonly id: string;
  /** JSON; bigints are written as text, bytes as base64. */
  readonly body: unknown;
}

const READ_BYTES = 256 * 1024;
const NEWLINE = 0x0a;

function toLine({ stage, reason, id, body }: QuarantineEntry): string {
  // The value as it is: `value` has already gone through the toJSON of buffers.
  function plain(this: Record<string, unknown>, key: string, value: unknown): unknown {
    const original = this[key];
    if (typeof original === 'bigint') return String(original);
    return original instanceof Uint8Array ? Buffer.from(original).toString('base64') : value;
  }
  return `${JSON.stringify({ stage, reason, id, body }, plain)}\n`;
}

/** What was set aside after its acknowledgement: an NDJSON file that people can read with any tool. Nothing is removed. */
export class Quarantine {
  readonly #file: DiskFile;
  #bytes: number;
  #adding: Promise<void> = Promise.resolve();

  private constructor(file: DiskFile, bytes: number) {
    this.#file = file;
    this.#bytes = bytes;
  }

  /** Creates `quarantine.ndjson` in the folder, or opens it and cuts off a line that a crash left unfinished. */
  static async open(folder: string, disk: Disk = nodeDisk): Promise<Quarantine> {
    await disk.makeFolder(folder);
    const path = join(folder, 'quarantine.ndjson');
    const file = await disk.create(path).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
      return disk.open(path);
    });
    await disk.syncFolder(folder);
    const size = await file.size();
    let end = 0;
    for await (const line of linesOf(file, size)) end += line.length + 1;
    if (end < size) await file.truncate(end);
    return new Quarantine(file, end);
  }

  /** Resolves when the entries are durable; rejects with `unavailable` when they are not. */
  add(entries: readonly QuarantineEntry[]): Promise<void> {
    const adding = this.#adding.then(() => this.#write(Buffer.from(entries.map(toLine).join(''))));
    this.#adding = adding.catch(() => undefined);
    return adding;
  }

  /** Everything that was set aside, oldest first; bodies as JSON has them. */
  async *list(): AsyncIterable<QuarantineEntry> {
    for await (const line of linesOf(this.#file, this.#bytes)) yield JSON.parse(line.toString());
  }

  async close(): Promise<void> {
    await this.#adding;
    await this.#file.close();
  }

  async #write(lines: Buffer): Promise<void> {
    if (lines.length === 0) return;
    try {
      await this.#file.write([lines], this.#bytes);
      await this.#file.fdatasync();
      this.#bytes += lines.length;
    } catch (error) {
      // The next add writes over the failed lines; what remains of them behind it must not be read as lines.
      await this.#file.truncate(this.#bytes).catch(() => undefined);
      throw new AppError('unavailable', `the quarantine cannot be written: ${describeError(error)}`, { cause: error });
    }
  }
}

/** The finished lines in the first `size` bytes, without their line ends. */
async function* linesOf(file: DiskFile, size: number): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for (let offset = 0; offset < size; offset += READ_BYTES) {
    const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, size - offset));
    const got = await file.read(chunk, offset);
    rest = Buffer.concat([rest, chunk.subarray(0, got)]);
    let start = 0;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, start)) {
      yield rest.subarray(start, end);
      start = end + 1;
    }
    rest = rest.subarray(start);
  }
}
