import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, statfs, unlink } from 'node:fs/promises';

/** An open file. Offsets and lengths in bytes. */
export interface DiskFile {
  /** Writes all buffers, one after the other, from the offset on; throws unless every byte was taken. */
  write(buffers: readonly Uint8Array[], offset: number): Promise<void>;
  /** Resolves when the bytes and the file's length are on the medium. */
  fdatasync(): Promise<void>;
  truncate(length: number): Promise<void>;
  /** Fills the target from the offset on; returns how many bytes there were. */
  read(target: Uint8Array, offset: number): Promise<number>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** A file open for reads only, without waiting. */
export interface SyncFile {
  read(target: Uint8Array, offset: number): number;
  size(): number;
  close(): void;
}

/** Everything that this folder asks of a file system: the seam at which tests and simulations make the disk misbehave. */
export interface Disk {
  /** A new file for this user only (0600); fails with EEXIST when there is one. */
  create(path: string): Promise<DiskFile>;
  /** An existing file, for reads and repair. */
  open(path: string): Promise<DiskFile>;
  /** An existing file, for reads only. */
  openToRead(path: string): Promise<DiskFile>;
  openSync(path: string): SyncFile;
  /** Creates the folder and its parents for this user only (0700), durable once its parent is synced; nothing when it is there. */
  makeFolder(path: string): Promise<void>;
  list(folder: string): Promise<string[]>;
  unlink(path: string): Promise<void>;
  /** Takes the place of what has the new name. */
  rename(from: string, to: string): Promise<void>;
  /** Bytes that this user may still write in the file system of the folder. */
  freeBytes(folder: string): Promise<number>;
  /** Resolves when created, renamed and removed names of the folder are on the medium. */
  syncFolder(path: string): Promise<void>;
}

/** Full for this user: no space is left, or none of what was granted. */
export function isDiskFull(thrown: unknown): boolean {
  const code = errnoOf(thrown);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** The system is short of file handles or memory: that says nothing of the file, and passes. */
export function isShortage(thrown: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'].includes(errnoOf(thrown) ?? '');
}

/** The code of a failed system call, e.g. `ENOENT`; undefined for other errors. */
export function errnoOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}

async function writeAll(handle: FileHandle, buffers: readonly Uint8Array[], offset: number): Promise<void> {
  let rest = [...buffers];
  let at = offset;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, at);
    at += bytesWritten;
    let skip = bytesWritten;
    // A short write says why only when the rest is tried again (for example ENOSPC).
    rest = rest.flatMap((buffer) => {
      const used = Math.min(skip, buffer.byteLength);
      skip -= used;
      return used === buffer.byteLength ? [] : [buffer.subarray(used)];
    });
  }
}

async function readAll(handle: FileHandle, target: Uint8Array, offset: number): Promise<number> {
  let filled = 0;
  while (filled < target.byteLength) {
    const { bytesRead } = await handle.read(target, filled, target.byteLength - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

function diskFile(handle: FileHandle): DiskFile {
  return {
    write: (buffers, offset) => writeAll(handle, buffers, offset),
    fdatasync: () => handle.datasync(),
    truncate: (length) => handle.truncate(length),
    read: (target, offset) => readAll(handle, target, offset),
    size: async () => (await handle.stat()).size,
    close: () => handle.close(),
  };
}

/** Reads from `offset` on until the target is full or the file ends; how many bytes there were. */
export function readAllSync(descriptor: number, target: Uint8Array, offset: number): number {
  let filled = 0;
  while (filled < target.byteLength) {
    const bytesRead = readSync(descriptor, target, filled, target.byteLength - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

function openSyncFile(path: string): SyncFile {
  const descriptor = openSync(path, 'r');
  return {
    read: (target, offset) => readAllSync(descriptor, target, offset),
    size: () => fstatSync(descriptor).size,
    close: () => closeSync(descriptor),
  };
}

/** The machine's file system. */
export const nodeDisk: Disk = {
  create: async (path) => diskFile(await open(path, 'wx+', 0o600)),
  open: async (path) => diskFile(await open(path, 'r+')),
  openToRead: async (path) => diskFile(await open(path, 'r')),
  openSync: openSyncFile,
  makeFolder: async (path) => {
    await mkdir(path, { recursive: true, mode: 0o700 });
  },
  list: (folder) => readdir(folder),
  unlink: (path) => unlink(path),
  rename: (from, to) => rename(from, to),
  async freeBytes(folder) {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  },
  async syncFolder(path) {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};
