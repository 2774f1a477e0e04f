import type { Disk, DiskFile } from '../../src/wal/disk.ts';
import type { MemoryDisk } from '../wal/memory-disk.ts';
import type { Random } from './random.ts';

/** How likely one call that changes something goes wrong, from 0 to 1. */
export interface DiskRates {
  /** Nothing is done. */
  readonly fails: number;
  /** It is done, or half of it, and said to have failed. */
  readonly failsButPersisted: number;
  /** The process ends before or right after it. */
  readonly kills: number;
  /** It takes seconds. */
  readonly stalls: number;
}

/** The process that asks: nothing happens to what it left behind once it is dead. */
export interface Asker {
  readonly isAlive: boolean;
  /** Resolves after the virtual time, and never for a dead process. */
  sleep(delayMs: number): Promise<void>;
  /** Ends the process here and now. */
  kill(why: string): void;
}

export interface FaultyDiskOptions {
  readonly disk: MemoryDisk;
  readonly asker: Asker;
  readonly random: Random;
  /** Asked at each call: faults come and go. */
  readonly rates: () => DiskRates;
  /** Told of each file that is about to be removed. */
  readonly removing: (path: string) => void;
  /** Told of each call that went wrong, for the log of a run. */
  readonly note: (line: string) => void;
}

const LATENCY_MAX_MS = 3;
const STALL_MAX_MS = 4_000;

function ioError(path: string): Error {
  return Object.assign(new Error(`EIO: i/o error, ${path}`), { code: 'EIO' });
}

/** The disk in memory as one process sees it: calls take time, may fail by chance, and end with the process. */
export function faultyDisk({ disk, asker, random, rates, removing, note }: FaultyDiskOptions): Disk {
  const reach = async (stalls: number): Promise<void> => {
    await asker.sleep(random.chance(stalls) ? random.int(100, STALL_MAX_MS) : random.next() * LATENCY_MAX_MS);
  };
  const changes = async <Result>(
    kind: string,
    path: string,
    act: () => Promise<Result>,
    actInPart = act,
  ): Promise<Result> => {
    const { fails, failsButPersisted, kills, stalls } = rates();
    const drawn = random.next();
    const isAfter = random.chance(0.5);
    await reach(stalls);
    if (drawn < fails) {
      note(`${kind} ${path} fails`);
      throw ioError(path);
    }
    if (drawn < fails + failsButPersisted) {
      note(`${kind} ${path} fails but is persisted${isAfter ? '' : ' in part'}`);
      await (isAfter ? act() : actInPart());
      throw ioError(path);
    }
    if (drawn < fails + failsButPersisted + kills) {
      if (isAfter) await act();
      asker.kill(`${isAfter ? 'after' : 'before'} ${kind} ${path}`);
      return new Promise<Result>(() => undefined);
    }
    return act();
  };
  const reads = async <Result>(act: () => Promise<Result>): Promise<Result> => {
    await reach(0);
    return act();
  };
  const wrap = (path: string, file: DiskFile): DiskFile => ({
    write: (buffers, offset) =>
      changes(
        'write',
        path,
        () => file.write(buffers, offset),
        () => {
          const whole = Buffer.concat(buffers);
          return file.write([whole.subarray(0, random.int(0, whole.length))], offset);
        },
      ),
    fdatasync: () => changes('fdatasync', path, () => file.fdatasync()),
    truncate: (length) => changes('truncate', path, () => file.truncate(length)),
    read: (target, offset) => reads(() => file.read(target, offset)),
    size: () => reads(() => file.size()),
    close: () => file.close(),
  });
  return {
    create: async (path) => wrap(path, await changes('create', path, () => disk.create(path))),
    open: async (path) => wrap(path, await reads(() => disk.open(path))),
    openToRead: async (path) => wrap(path, await reads(() => disk.openToRead(path))),
    openSync: (path) => disk.openSync(path),
    makeFolder: (path) => disk.makeFolder(path),
    list: (folder) => reads(() => disk.list(folder)),
    unlink(path) {
      removing(path);
      return changes('unlink', path, () => disk.unlink(path));
    },
    rename: (from, to) => changes('rename', from, () => disk.rename(from, to)),
    freeBytes: () => reads(() => disk.freeBytes()),
    syncFolder: (path) => changes('syncFolder', path, () => disk.syncFolder(path)),
  };
}

/** What is on the disk now, in one of its own: looking at it disturbs nothing. */
export function copyOf(disk: MemoryDisk, empty: MemoryDisk): MemoryDisk {
  for (const path of disk.paths()) empty.plant(path, disk.bytesOf(path));
  return empty;
}
