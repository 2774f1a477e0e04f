import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Scheduler } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import { isDiskFull } from '../../src/wal/disk.ts';
import { DiskSpace } from '../../src/wal/disk-space.ts';
import type { FramePosition } from '../../src/wal/segment-format.ts';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf, numberOf, replayed } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

const MEBIBYTE = 1024 * 1024;
const FOLDER = '/data';
const RESERVE = `${FOLDER}/reserve`;
let elapsedMs = 0;
/** Looks only when a test says so. */
const never: Scheduler = { after: () => () => undefined, elapsedMs: () => elapsedMs, random: () => 0 };

async function openSpace(disk: MemoryDisk, freeBytesMin = 4 * MEBIBYTE, reserveBytes = 2.5 * MEBIBYTE) {
  const said: string[] = [];
  const counters = new Counters();
  const report = (isShort: boolean, words: string) => void said.push(`${isShort ? 'short' : 'room'}: ${words}`);
  const options = { folder: FOLDER, disk, scheduler: never, counters, report, freeBytesMin, reserveBytes };
  return { space: await DiskSpace.open(options), said, counters };
}

const reserveOf = (disk: MemoryDisk) => (disk.paths().includes(RESERVE) ? disk.bytesOf(RESERVE).length : 0);

describe('the watch over free space', () => {
  it('keeps a reserve of real bytes, and the same one after a restart', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    const { space, said } = await openSpace(disk);
    await space.check();
    const bytes = disk.bytesOf(RESERVE);
    expect(bytes.length).toBe(2.5 * MEBIBYTE);
    expect(space.status()).toEqual({ freeBytes: 17.5 * MEBIBYTE, isShort: false, missingBytes: 0 });
    await space.close();
    disk.crash('nothing unsynced');
    const again = await openSpace(disk);
    await again.space.check();
    expect(disk.bytesOf(RESERVE).equals(bytes)).toBe(true);
    expect([...said, ...again.said]).toEqual([]);
  });

  it('fills up a reserve that an earlier process could not finish', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    disk.plant(RESERVE, Buffer.alloc(MEBIBYTE, 7));
    const { space } = await openSpace(disk);
    await space.check();
    expect(reserveOf(disk)).toBe(2.5 * MEBIBYTE);
  });

  it('is short below the least, resumes only with a margin, and says both once', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    const { space, said, counters } = await openSpace(disk);
    await space.check();
    const states: unknown[] = [];
    for (const used of [13, 14, 13, 12.6, 12.5, 12.6, 13]) {
      disk.plant(`${FOLDER}/other`, Buffer.alloc(used * MEBIBYTE));
      await space.check();
      states.push([used, space.status().isShort, counters.total('disk_short'), space.status().missingBytes / MEBIBYTE]);
    }
    expect(states).toEqual([
      [13, false, 0, 0],
      [14, true, 1, 1.5],
      [13, true, 1, 0.5],
      [12.6, true, 1, expect.closeTo(0.1)],
      [12.5, false, 0, 0],
      [12.6, false, 0, 0],
      [13, false, 0, 0],
    ]);
    expect(said).toEqual([
      expect.stringMatching(/^short: .*nearly full, evidence is refused until 5 MiB are free: 3 MiB are free .*\/data/),
      expect.stringMatching(/^room: .*evidence is accepted/),
    ]);
    expect(reserveOf(disk)).toBe(2.5 * MEBIBYTE);
  });

  it('gives the reserve back when the disk is full, and makes it again before it accepts', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    const { space } = await openSpace(disk);
    await space.check();
    disk.plant(`${FOLDER}/other`, Buffer.alloc(17.4 * MEBIBYTE));
    await space.check();
    expect([reserveOf(disk), space.status().isShort]).toEqual([0, true]);
    // Room enough to accept, but not for the reserve besides.
    disk.plant(`${FOLDER}/other`, Buffer.alloc(13 * MEBIBYTE));
    await space.check();
    expect([reserveOf(disk), space.status().isShort]).toEqual([0, true]);
    disk.plant(`${FOLDER}/other`, Buffer.alloc(12 * MEBIBYTE));
    await space.check();
    expect([reserveOf(disk), space.status().isShort]).toEqual([2.5 * MEBIBYTE, false]);
  });

  it('is short from the first write that met a full disk, whatever the figures say', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    const { space, said } = await openSpace(disk);
    await space.check();
    space.noteFull();
    expect(space.status().isShort).toBe(true);
    await space.check();
    expect(said).toEqual([expect.stringContaining('evidence is refused')]);
    // What the figures do not show may not be over yet.
    await space.check();
    expect([reserveOf(disk), space.status().isShort]).toEqual([0, true]);
    elapsedMs += 2_000;
    await space.check();
    expect([reserveOf(disk), space.status().isShort]).toEqual([2.5 * MEBIBYTE, false]);
  });

  it('leaves no half of a reserve behind when it does not fit after all', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 2 * MEBIBYTE;
    disk.freeBytes = async () => 20 * MEBIBYTE;
    const { space, said } = await openSpace(disk);
    for (let look = 0; look < 3; look += 1) {
      elapsedMs += 2_000;
      await space.check();
      expect([disk.paths(), space.status().isShort]).toEqual([[], false]);
    }
    expect(said).toEqual([expect.stringContaining('ENOSPC')]);
  });

  it('starts on a full disk, without a reserve, and says so', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 3 * MEBIBYTE;
    const { space, said } = await openSpace(disk);
    expect(space.status().isShort).toBe(true);
    await space.check();
    expect(reserveOf(disk)).toBe(0);
    expect(said).toEqual([expect.stringContaining('nearly full')]);
  });

  it('needs none when none is wanted', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 20 * MEBIBYTE;
    const { space } = await openSpace(disk, 0, 0);
    disk.plant(`${FOLDER}/other`, Buffer.alloc(20 * MEBIBYTE));
    await space.check();
    expect([disk.paths(), space.status().isShort]).toEqual([[`${FOLDER}/other`], false]);
  });

  it('goes on when a step fails, and tries again', async () => {
    for (let step = 0; step < 6; step += 1) {
      const disk = new MemoryDisk();
      disk.capacityBytes = 20 * MEBIBYTE;
      const { space, said } = await openSpace(disk);
      disk.faults = [{ step, mode: 'fails' }];
      await space.check();
      expect(said.length, `step ${step}`).toBe(1);
      elapsedMs += 2_000;
      await space.check();
      expect([reserveOf(disk), space.status().isShort]).toEqual([2.5 * MEBIBYTE, false]);
    }
  });
});

describe('on a small file system', () => {
  let mount: string | undefined;
  afterEach(() => {
    if (mount === undefined) return;
    execFileSync('umount', ['-l', mount]);
    rmSync(mount, { recursive: true });
    mount = undefined;
  });

  function mountSmall(size: string): string {
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-small-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'spantrail', folder]);
    mount = folder;
    return folder;
  }

  /** Whoever is not root is it in a namespace of their own. */
  const isRoot = process.getuid?.() === 0;

  it.runIf(process.platform === 'linux')(
    'what was acknowledged survives a disk filled to the last byte, and appends go on after',
    async () => {
      if (!isRoot) {
        const vitest = join(import.meta.dirname, '../../node_modules/vitest/vitest.mjs');
        execFileSync('unshare', [
          '-rm',
          process.execPath,
          vitest,
          'run',
          import.meta.filename,
          '-t',
          'survives a disk',
        ]);
        return;
      }
      const folder = mountSmall('24m');
      const space = await DiskSpace.open({
        folder,
        reserveBytes: 4 * MEBIBYTE,
        freeBytesMin: 2 * MEBIBYTE,
        scheduler: never,
      });
      await space.check();
      expect((await stat(join(folder, 'reserve'))).blocks * 512).toBe(4 * MEBIBYTE);
      const failures: unknown[] = [];
      const wal = await Wal.open({
        folder: join(folder, 'wal'),
        segmentBytes: 3 * MEBIBYTE,
        writeFailed(error) {
          failures.push(error);
          space.noteFull();
        },
      });
      const acknowledged = new Map<number, FramePosition>();
      let number = 0;
      while (failures.length === 0) {
        const batch = Array.from({ length: 8 }, () => number++);
        await Promise.all(
          batch.map((one) =>
            wal.append(frameOf(one, 70_000)).then(
              (position) => acknowledged.set(one, position),
              (error: unknown) => expect(error).toMatchObject({ code: 'unavailable' }),
            ),
          ),
        );
      }
      expect(failures.every(isDiskFull)).toBe(true);
      await space.check();
      expect(space.status().isShort).toBe(true);
      await expect(stat(join(folder, 'reserve'))).rejects.toMatchObject({ code: 'ENOENT' });
      // What the reserve gave back is there for the journal, the store and a clean stop; here, for a log of its own.
      await writeFile(join(folder, 'journal'), Buffer.alloc(3 * MEBIBYTE, 1));
      await unlink(join(folder, 'journal'));
      // A stored segment goes, as the pump does it, until there is room for the reserve and more.
      while (space.status().isShort) {
        const [oldest] = wal.segments();
        await wal.drop(oldest?.segment ?? 0);
        elapsedMs += 2_000;
        for (const [one, { segment }] of acknowledged) if (segment === oldest?.segment) acknowledged.delete(one);
        await space.check();
      }
      expect((await stat(join(folder, 'reserve'))).size).toBe(4 * MEBIBYTE);
      acknowledged.set(number, await wal.append(frameOf(number, 70_000)));
      await wal.close();
      const again = await Wal.open({ folder: join(folder, 'wal') });
      const found = (await replayed(again)).map(numberOf);
      expect([...acknowledged.keys()].filter((one) => !found.includes(one))).toEqual([]);
      expect(acknowledged.size).toBeGreaterThan(100);
      await again.close();
      await space.close();
      expect((await statfs(folder)).bavail).toBeGreaterThan(0);
    },
  );
});
