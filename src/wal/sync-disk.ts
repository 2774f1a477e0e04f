import { closeSync, fdatasyncSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type Disk, type DiskFile, nodeDisk, readAllSync } from './disk.ts';

function write(descriptor: number, buffer: Uint8Array, offset: number): void {
  // A short write says why only when the rest is tried again (for example ENOSPC).
  for (let done = 0; done < buffer.byteLength; ) {
    done += writeSync(descriptor, buffer, done, buffer.byteLength - done, offset + done);
  }
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
    read: async (target, offset) => readAllSync(descriptor, target, offset),
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
