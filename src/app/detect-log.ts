import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Scheduler, systemScheduler } from '../core/clock.ts';
import { ignoreAbsent, putAside, readChecked, writeChecked } from '../coverage/checked-file.ts';
import type { BatchChanges } from '../detect/changes.ts';
import type { Engine } from '../detect/engine.ts';
import type { Disk, DiskFile } from '../wal/disk.ts';
import type { StageLog } from './stages.ts';

/**
 * The folder `detect` of the data folder: what rules remember. `state` is a checkpoint, a checked file whose first line names the
 * log that goes on from there; `log-N` holds what changed since: a line a batch, its checksum and then JSON, of which the first
 * names the rules. The order matters: a checkpoint is durable, and the next log is there, before the log that it covers goes.
 */
const FORMAT = 'spantrail-detect-state';
const STATE = 'state';
const LOG = /^log-(\d+)$/;
/** A checkpoint costs a read of all state: it is made when the log is as long as that, and no sooner than this. */
const LOG_BYTES_MIN = 4 * 1024 ** 2;

export interface DetectLogOptions {
  /** The data folder. */
  readonly folder: string;
  readonly disk: Disk;
  /** Default: the machine's timers. */
  readonly scheduler?: Scheduler;
  readonly log: StageLog;
  /** A log is at least as long before a checkpoint takes its place. */
  readonly logBytesMin?: number;
}

export interface DetectLog {
  /** Resolves when the changes are on the medium. Rejects when they are not, maybe: then the same are given again. */
  append(batches: readonly BatchChanges[]): Promise<void>;
  /**
   * All state as of now, when the log is long enough for it or `isForced`; changes must be appended before, and none may be made
   * until it resolves: it takes many turns of the event loop.
   */
  checkpoint(engine: Engine, isForced?: boolean): Promise<void>;
  close(): Promise<void>;
}

/**
 * Gives the engine the state of the last run, and begins a new log. The alerts of the last batch are told again by the
 * engine: the run may have ended between the log and the desk. Damage is put aside and said: what is known up to there counts.
 */
export async function openDetectLog(engine: Engine, options: DetectLogOptions): Promise<DetectLog> {
  const { disk, log } = options;
  const folder = join(options.folder, 'detect');
  await disk.makeFolder(folder);
  await disk.syncFolder(options.folder);
  const numbers = (await disk.list(folder)).flatMap((name) => LOG.exec(name)?.[1] ?? []).map(Number);
  const first = await restoreState(engine, { ...options, folder });
  const later = numbers.filter((number) => number >= first).sort((a, b) => a - b);
  for (const number of later) {
    const path = join(folder, `log-${number}`);
    if (restoreLog(engine, await readFile(disk, path)) !== 'damaged') continue;
    const aside = await putAside(disk, path);
    log.error({ aside }, 'the log of what rules remember is damaged: what it holds up to there is used');
  }
  const running = new RunningLog(folder, options, Math.max(first, ...numbers) + 1);
  await running.checkpoint(engine, true);
  return running;
}

class RunningLog implements DetectLog {
  readonly #folder: string;
  readonly #disk: Disk;
  readonly #logBytesMin: number;
  readonly #scheduler: Scheduler;
  #number: number;
  #file: DiskFile | undefined;
  #bytes = 0;
  #stateBytes = 0;

  constructor(folder: string, options: DetectLogOptions, number: number) {
    const { disk, logBytesMin = LOG_BYTES_MIN, scheduler = systemScheduler } = options;
    this.#folder = folder;
    this.#logBytesMin = logBytesMin;
    this.#disk = disk;
    this.#scheduler = scheduler;
    this.#number = number;
  }

  async append(batches: readonly BatchChanges[]): Promise<void> {
    if (this.#file === undefined) throw new Error('the log of what rules remember is not open');
    const line = lineOf(batches);
    // A write that failed in part is written over by the next.
    await this.#file.write([line], this.#bytes);
    await this.#file.fdatasync();
    this.#bytes += line.length;
  }

  async checkpoint(engine: Engine, isForced = false): Promise<void> {
    if (!isForced && this.#file !== undefined && this.#bytes < Math.max(this.#logBytesMin, this.#stateBytes)) return;
    const disk = this.#disk;
    const number = this.#number++;
    const path = join(this.#folder, `log-${number}`);
    await disk.unlink(path).catch(ignoreAbsent);
    const file = await disk.create(path);
    try {
      const head = lineOf(engine.fingerprints());
      await file.write([head], 0);
      await file.fdatasync();
      await disk.syncFolder(this.#folder);
      const pause = () => new Promise<void>((resolve) => this.#scheduler.after(0, resolve));
      await writeChecked(disk, join(this.#folder, STATE), FORMAT, stateLines(number, engine), pause);
      await this.#file?.close();
      this.#file = file;
      this.#bytes = head.length;
    } catch (error) {
      await file.close().catch(() => undefined);
      throw error;
    }
    await this.#unlinkBefore(number);
  }

  async #unlinkBefore(number: number): Promise<void> {
    for (const name of await this.#disk.list(this.#folder)) {
      const found = LOG.exec(name)?.[1];
      if (found !== undefined && Number(found) < number) await this.#disk.unlink(join(this.#folder, name));
    }
    const state = await this.#disk.openToRead(join(this.#folder, STATE));
    this.#stateBytes = await state.size().finally(() => state.close());
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

function* stateLines(log: number, engine: Engine): Iterable<unknown> {
  yield { log };
  yield* engine.snapshot();
}

/** Number of the first log that the checkpoint does not cover. */
async function restoreState(engine: Engine, { folder, disk, log }: DetectLogOptions): Promise<number> {
  const path = join(folder, STATE);
  const state = await readChecked(disk, path, FORMAT);
  if (state.kind === 'absent') return 0;
  if (state.kind === 'damaged') {
    const aside = await putAside(disk, path);
    log.error({ aside, reason: state.reason }, 'what rules remember cannot be read; they begin anew');
    return 0;
  }
  const [head, ...lines] = state.lines;
  const unreadable = new Set<string>();
  for (const [rule, fingerprint, saved] of lines as [string, string, unknown][]) {
    if (unreadable.has(rule)) continue;
    try {
      engine.restore(rule, fingerprint, saved);
    } catch (error) {
      // Written by another version.
      unreadable.add(rule);
      engine.forget(rule);
      log.error({ rule, error }, 'what a rule remembers cannot be read; it begins anew');
    }
  }
  return (head as { log: number }).log;
}

/** A cut last line is what a crash leaves: it was never acknowledged. After any other damage the rest means nothing. */
function restoreLog(engine: Engine, bytes: Buffer): 'whole' | 'cut' | 'damaged' {
  let fingerprints: ReadonlyMap<string, string> | undefined;
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf('\n', at);
    const value = end < 0 ? undefined : parseLine(bytes.subarray(at, end));
    if (value === undefined) return end < 0 || end + 1 === bytes.length ? 'cut' : 'damaged';
    if (fingerprints === undefined) fingerprints = new Map(Object.entries(value as Record<string, string>));
    else {
      // Alerts of all but the last batch were told before the next one came.
      engine.forgetAlerts();
      try {
        for (const batch of value as BatchChanges[]) engine.apply(batch, fingerprints);
      } catch {
        // Written by another version.
        return 'damaged';
      }
    }
    at = end + 1;
  }
  return 'whole';
}

/** Characters of the checksum and the blank before a line's JSON. */
const PREFIX_CHARS = 9;
const LINE_END = 0x0a;

function lineOf(value: unknown): Buffer {
  const json = JSON.stringify(value);
  const line = Buffer.allocUnsafe(PREFIX_CHARS + Buffer.byteLength(json) + 1);
  line.write(json, PREFIX_CHARS);
  line.writeUInt8(LINE_END, line.length - 1);
  const checksum = crc32(line.subarray(PREFIX_CHARS, -1)).toString(16);
  line.write(`${checksum.padStart(PREFIX_CHARS - 1, '0')} `, 'latin1');
  return line;
}

function parseLine(line: Buffer): unknown {
  const text = line.subarray(PREFIX_CHARS);
  if (
    line.toString('latin1', 0, PREFIX_CHARS - 1) !==
    crc32(text)
      .toString(16)
      .padStart(PREFIX_CHARS - 1, '0')
  )
    return undefined;
  return JSON.parse(text.toString('utf8'));
}

async function readFile(disk: Disk, path: string): Promise<Buffer> {
  const file = await disk.openToRead(path);
  try {
    const bytes = Buffer.alloc(await file.size());
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}
