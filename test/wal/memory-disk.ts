import { dirname } from 'node:path';
import type { Disk, DiskFile } from '../../src/wal/disk.ts';

/** What the medium does at one step: refuse it, do it and say it failed, or lose power before it. */
export type FaultMode = 'fails' | 'fails but persisted' | 'killed';

/** What of the bytes and names without an fsync is there after a crash. */
export type CrashMode = 'nothing unsynced' | 'half of it' | 'all of it';

interface MemoryFile {
  bytes: Buffer;
  durable: Buffer;
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

/**
 * A disk in memory that knows what has been fsynced, can fail at any step and can be full. Steps are the calls that change
 * something: create, write, fdatasync, truncate, rename, unlink, syncFolder, counted from 0.
 */
export class MemoryDisk implements Disk {
  #names = new Map<string, MemoryFile>();
  #durableNames = new Map<string, MemoryFile>();
  /** Folders that were made; others are there and durable. */
  readonly #folders = new Map<string, { isDurable: boolean }>();
  #dead = false;
  readonly steps: string[] = [];
  faults: { step: number; mode: FaultMode }[] = [];
  /** A write that would need more than this for all files together fails with ENOSPC, having written what fits. */
  capacityBytes = Number.POSITIVE_INFINITY;
  /** Awaited inside every fdatasync. */
  gate: Promise<void> | undefined;

  count(kind: string): number {
    return this.steps.filter((step) => step === kind).length;
  }

  /** The machine loses power and starts again; or only the process ended, and the system still holds what it wrote. */
  crash(mode: CrashMode): void {
    this.#dead = false;
    this.faults = [];
    if (mode === 'all of it') return;
    const isThere = ([path]: readonly [string, MemoryFile]) => this.#folders.get(dirname(path))?.isDurable ?? true;
    this.#names = new Map([...this.#durableNames].filter(isThere));
    this.#durableNames = new Map(this.#names);
    for (const file of this.#names.values()) {
      const grown = file.bytes.length - file.durable.length;
      const tail = mode === 'half of it' && grown > 0 ? Math.floor(grown / 2) : 0;
      file.bytes = tail > 0 ? file.bytes.subarray(0, file.durable.length + tail) : file.durable;
      file.durable = file.bytes;
    }
  }

  bytesOf(path: string): Buffer {
    return Buffer.from(this.#file(path).bytes);
  }

  /** Puts a file there as if it had always been. */
  plant(path: string, bytes: Buffer): void {
    const file = { bytes, durable: bytes };
    this.#folders.set(dirname(path), { isDurable: true });
    this.#names.set(path, file);
    this.#durableNames.set(path, file);
  }

  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  async create(path: string): Promise<DiskFile> {
    return this.#step('create', path, () => {
      if (this.#names.has(path)) throw systemError('EEXIST', path);
      this.#names.set(path, { bytes: Buffer.alloc(0), durable: Buffer.alloc(0) });
      return this.#handle(path);
    });
  }

  async open(path: string): Promise<DiskFile> {
    return this.#handle(path);
  }

  async openToRead(path: string): Promise<DiskFile> {
    return this.#handle(path);
  }

  openSync(path: string) {
    const file = this.#file(path);
    return {
      read: (target: Uint8Array, offset: number) => readFrom(file, target, offset),
      size: () => file.bytes.length,
      close: () => undefined,
    };
  }

  async makeFolder(path: string): Promise<void> {
    if (!this.#folders.has(path)) this.#folders.set(path, { isDurable: false });
  }

  async list(folder: string): Promise<string[]> {
    return this.paths()
      .filter((path) => path.startsWith(`${folder}/`))
      .map((path) => path.slice(folder.length + 1));
  }

  unlink(path: string): Promise<void> {
    return this.#step('unlink', path, () => {
      this.#file(path);
      this.#names.delete(path);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#step('rename', from, () => {
      this.#names.set(to, this.#file(from));
      this.#names.delete(from);
    });
  }

  /** As many as the capacity leaves; removed files take none, though a crash may bring them back. */
  async freeBytes(): Promise<number> {
    return Math.max(0, this.capacityBytes - this.#usedBytes());
  }

  syncFolder(folder: string): Promise<void> {
    return this.#step('syncFolder', folder, () => {
      const isElsewhere = ([path]: readonly [string, MemoryFile]) => dirname(path) !== folder;
      const isHere = (entry: readonly [string, MemoryFile]) => !isElsewhere(entry);
      this.#durableNames = new Map([
        ...[...this.#durableNames].filter(isElsewhere),
        ...[...this.#names].filter(isHere),
      ]);
      for (const [path, made] of this.#folders) made.isDurable ||= dirname(path) === folder;
    });
  }

  #usedBytes(): number {
    let bytes = 0;
    for (const file of this.#names.values()) bytes += file.bytes.length;
    return bytes;
  }

  #file(path: string): MemoryFile {
    const file = this.#names.get(path);
    if (!file) throw systemError('ENOENT', path);
    return file;
  }

  async #step<Result>(kind: string, path: string, act: () => Result): Promise<Result> {
    const step = this.steps.push(kind) - 1;
    if (kind === 'fdatasync') await this.gate;
    const fault = this.faults.find((planned) => planned.step === step)?.mode;
    if (fault === 'killed') this.#dead = true;
    if (this.#dead || fault === 'fails') throw systemError('EIO', path);
    const result = act();
    if (fault) throw systemError('EIO', path);
    return result;
  }

  #handle(path: string): DiskFile {
    const file = this.#file(path);
    return {
      write: (buffers, offset) =>
        this.#step('write', path, () => {
          const wanted = Buffer.concat(buffers);
          const growth = Math.max(0, offset + wanted.length - file.bytes.length);
          const lacking = Math.max(0, growth - Math.max(0, this.capacityBytes - this.#usedBytes()));
          const added = wanted.subarray(0, wanted.length - lacking);
          const bytes = Buffer.alloc(Math.max(file.bytes.length, offset + added.length));
          file.bytes.copy(bytes);
          added.copy(bytes, offset);
          file.bytes = bytes;
          if (lacking > 0) throw systemError('ENOSPC', path);
        }),
      fdatasync: () =>
        this.#step('fdatasync', path, () => {
          file.durable = file.bytes;
        }),
      truncate: (length) =>
        this.#step('truncate', path, () => {
          file.bytes = file.bytes.subarray(0, length);
        }),
      read: async (target, offset) => readFrom(file, target, offset),
      size: async () => file.bytes.length,
      close: async () => undefined,
    };
  }
}

function readFrom(file: MemoryFile, target: Uint8Array, offset: number): number {
  return file.bytes.copy(target, 0, Math.min(offset, file.bytes.length));
}
