import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { type Disk, type DiskFile, nodeDisk } from './disk.ts';

function write(descriptor: number, buffer: Uint8Array, offset: number): void {
  // A short write says why only when the rest is tried again (for example ENOSPC).
  for (let done = 0; done < buffer.byteLength; ) {
    done += writeSync(descriptor, buffer, done, buffer.byteLength - done, offset + done);
  }
}

function read(descriptor: number, target: Uint8Array, offset: number): number {
  let filled = 0;
  while (filled < target.byteLength) {
    const bytesRead = readSync(descriptor, target, filled, target.byteLength - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

async function openFile(path: string, flags: string): Promise<DiskFile> {
  const descriptor = openSync(path, flags, 0o600);
  return {
    async write(buffers, offset) {
      let at = offset;
      for (const buffer of buffers) {
        write(descriptor, buffer, at);
        at += buffer.byteLength;
      }
    },
    fdatasync: async () => fdatasyncSync(descriptor),
    truncate: async (length) => ftruncateSync(descriptor, length),
    read: async (target, offset) => read(descriptor, target, offset),
    size: async () => fstatSync(descriptor).size,
    close: async () => closeSync(descriptor),
  };
}

/**
 * The machine's file system for a thread that has nothing else to do: what is done with the bytes of a file is over when the call
 * returns, so the work and the waiting are that thread's own, at its priority, instead of a pool's that everybody shares.
 */
export const syncDisk: Disk = {
  ...nodeDisk,
  create: (path) => openFile(path, 'wx+'),
  open: (path) => openFile(path, 'r+'),
  openToRead: (path) => openFile(path, 'r'),
};
