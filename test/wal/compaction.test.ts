import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { type FrameReader, openFrameReader, type Wal } from '../../src/wal/wal.ts';
import { FOLDER, frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { type CrashMode, type FaultMode, MemoryDisk } from './memory-disk.ts';

const nameOf = (segment: number, suffix: string) => `${FOLDER}/${String(segment).padStart(10, '0')}${suffix}`;

/** A log with these frames in its first segment and one more in the second. */
async function written(sizes: readonly number[], disk = new MemoryDisk()) {
  const { wal, reports } = await openWal(disk, { segmentBytes: 64 * 1024 * 1024, cacheBytesMax: 0, segmentAgeMs: -1 });
  const stored: StoredFrame[] = [];
  wal.onDurable((frame) => stored.push(frame));
  await Promise.all(sizes.map((size, number) => wal.append(frameOf(number, size))));
  await wal.sealAged();
  await wal.append(frameOf(sizes.length));
  return { disk, wal, reports, stored, inFirst: stored.slice(0, -1) };
}

/** Compacts to the end. */
async function compact(wal: Wal, segment: number): Promise<void> {
  expect(wal.startCompaction(segment)).toBe(true);
  while (wal.isCompacting) await new Promise(setImmediate);
}

/** In words, because a comparison of so many bytes is slow. */
function digest(frames: readonly StoredFrame[]): string[] {
  return frames.map(({ position, signal, note, payload, length }) => {
    const place = `${position.segment}:${position.offset}+${length}`;
    return `${place} ${signal} ${note.sender} ${note.receivedNs} ${payload.length} ${crc32(payload)}`;
  });
}

function readable(reader: Pick<FrameReader, 'read'>, frames: readonly StoredFrame[]): number[] {
  return frames.flatMap((frame) => {
    try {
      expect(digest([reader.read(frame.position)])).toEqual(digest([frame]));
      return [numberOf(frame)];
    } catch (error) {
      expect(error).toMatchObject({ code: 'storage' });
      return [];
    }
  });
}

/** Several blocks: of many frames, of one, and of one that is larger than a block. */
const SIZES = [...Array.from({ length: 40 }, () => 40_000), 1_600_000, 3, 1_000_000, 360_000, 280_000];

describe('a compacted segment', () => {
  it('gives back every frame at its position, to everybody, before and after a restart', async () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 300_000 })), {
      minLength: 1,
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(sizes, async (some) => {
        const { disk, wal, stored, reports } = await written(some);
        const early = openFrameReader(FOLDER, disk);
        const raw = disk.bytesOf(nameOf(1, '.wal'));
        expect(readable(early, stored)).toEqual(stored.map(numberOf));
        await compact(wal, 1);
        expect(disk.paths()).toEqual([nameOf(1, '.walz'), nameOf(2, '.wal')]);
        // One had the raw file open, one opens now.
        for (const reader of [early, openFrameReader(FOLDER, disk), wal]) {
          expect(readable(reader, stored)).toEqual(stored.map(numberOf));
          expect(() => reader.read({ segment: 1, offset: raw.length })).toThrow(/there is no entry/);
        }
        expect(wal.bytes).toBe(disk.bytesOf(nameOf(1, '.walz')).length + disk.bytesOf(nameOf(2, '.wal')).length);
        const before = wal.segments();
        await wal.close();
        const again = await openWal(disk);
        expect(again.wal.segments().slice(0, 1)).toEqual(before.slice(0, 1));
        expect(digest(await replayed(again.wal))).toEqual(digest(stored));
        expect([...reports, ...again.reports]).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it('is smaller, is dropped like any other, and is not compacted again', async () => {
    const { disk, wal } = await written(SIZES);
    const rawBytes = disk.bytesOf(nameOf(1, '.wal')).length;
    await compact(wal, 1);
    expect(disk.bytesOf(nameOf(1, '.walz')).length).toBeLessThan(rawBytes / 10);
    expect([wal.startCompaction(1), wal.startCompaction(2), wal.startCompaction(3)]).toEqual([false, false, false]);
    await wal.drop(1);
    expect(disk.paths()).toEqual([nameOf(2, '.wal')]);
  });

  it('goes on in the compressed file where a scan of the raw one was overtaken', async () => {
    const { disk, wal, inFirst } = await written(SIZES);
    await wal.close();
    const again = await openWal(disk);
    const found: number[] = [];
    await again.wal.replay(async (frame) => {
      found.push(numberOf(frame));
      if (numberOf(frame) === 3) await compact(again.wal, 1);
    });
    expect(found).toEqual([...inFirst.keys(), inFirst.length]);
    expect(again.reports).toEqual([]);
  });

  it('is given up when it is dropped or the log is closed meanwhile', async () => {
    for (const end of [(wal: Wal) => wal.drop(1), (wal: Wal) => wal.close(), (wal: Wal) => wal.stopCompaction()]) {
      const { disk, wal, stored, reports } = await written(SIZES);
      expect(wal.startCompaction(1)).toBe(true);
      await end(wal);
      expect(disk.paths().filter((path) => !path.endsWith('.wal'))).toEqual([]);
      await wal.close();
      const { wal: again } = await openWal(disk);
      const left = disk.paths().includes(nameOf(1, '.wal')) ? stored : stored.slice(-1);
      expect(digest(await replayed(again))).toEqual(digest(left));
      expect(reports).toEqual([]);
    }
  });

  it('waits for appends, but not for ever', async () => {
    const { disk, wal, stored } = await written(SIZES);
    let open = () => {};
    disk.gate = new Promise((resolve) => {
      open = resolve;
    });
    const append = wal.append(frameOf(1000));
    await new Promise(setImmediate);
    expect(wal.startCompaction(1)).toBe(true);
    const writes = disk.count('write');
    while (disk.count('write') < writes + 5) await new Promise(setImmediate);
    open();
    await append;
    while (wal.isCompacting) await new Promise(setImmediate);
    expect(readable(wal, stored)).toEqual(stored.map(numberOf));
  });

  it('stays raw when it is damaged, and that is said once', async () => {
    const { disk, wal, reports, inFirst } = await written(SIZES);
    const bytes = disk.bytesOf(nameOf(1, '.wal'));
    const at = (inFirst[20]?.position.offset ?? 0) + 30;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    disk.plant(nameOf(1, '.wal'), bytes);
    await compact(wal, 1);
    expect(wal.startCompaction(1)).toBe(false);
    expect(disk.paths()).toEqual([nameOf(1, '.wal'), nameOf(2, '.wal')]);
    const offset = inFirst[20]?.position.offset;
    expect(reports).toMatchObject([{ segment: 1, offset, reason: expect.stringContaining('is not compacted') }]);
  });
});

describe('damage in a compressed segment', async () => {
  const whole = await written(SIZES);
  const path = nameOf(1, '.walz');
  await compact(whole.wal, 1);
  await whole.wal.close();
  const bytes = whole.disk.bytesOf(path);

  /** Damages the file and starts again: which frames are there, by replay and by position, and what was said. */
  async function afterDamage(damaged: Buffer) {
    const disk = new MemoryDisk();
    disk.plant(nameOf(2, '.wal'), whole.disk.bytesOf(nameOf(2, '.wal')));
    disk.plant(path, damaged);
    const { wal, reports } = await openWal(disk, { cacheBytesMax: 0 });
    const found = (await replayed(wal)).map(numberOf);
    expect(readable(wal, whole.stored)).toEqual(found);
    await wal.close();
    return { found, reports };
  }

  it('costs its own block and names it', async () => {
    const all = whole.stored.map(numberOf);
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const damaged = Buffer.from(bytes);
        damaged.writeUInt8(damaged.readUInt8(at) ^ mask, at);
        const { found, reports } = await afterDamage(damaged);
        const lost = all.filter((number) => !found.includes(number));
        // Frames that lie in one block, one after the other.
        expect(lost.every((number, index) => index === 0 || number === (lost[index - 1] ?? 0) + 1)).toBe(true);
        expect(lost.reduce((sum, number) => sum + (SIZES[number] ?? 0), 0)).toBeLessThanOrEqual(1_600_000);
        expect(reports.length).toBeGreaterThan(0);
        const [report] = reports;
        expect(report).toMatchObject({ segment: 1, file: path });
        if (lost.length > 0) {
          expect(report?.offset).toBeLessThanOrEqual(at);
          expect((report?.offset ?? 0) + (report?.bytesCut ?? 0)).toBeGreaterThan(at);
          expect([report?.from, report?.to]).toEqual([expect.any(String), expect.any(String)]);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('by a cut costs what lies behind it', async () => {
    for (const at of [
      0,
      1,
      31,
      32,
      33,
      71,
      72,
      500,
      ...Array.from({ length: 25 }, (_, index) => bytes.length - 1 - index * 90),
    ]) {
      const { found, reports } = await afterDamage(bytes.subarray(0, at));
      const inFirst = found.slice(0, -1);
      expect(inFirst).toEqual([...inFirst.keys()]);
      expect(found.at(-1)).toBe(SIZES.length);
      expect(reports, `cut at ${at}`).not.toEqual([]);
    }
  });
});

const FAULTS: FaultMode[] = ['fails', 'fails but persisted', 'killed'];
const CRASHES: CrashMode[] = ['nothing unsynced', 'half of it', 'all of it'];

describe('write matrix of a compaction', () => {
  const few = [300, 800_000, 800_000, 40];

  it.each(FAULTS.flatMap((mode) => CRASHES.map((crash) => ({ mode, crash }))))(
    'a step that $mode, then a crash that leaves $crash',
    async ({ mode, crash }) => {
      const whole = await written(few);
      const begin = whole.disk.steps.length;
      await compact(whole.wal, 1);
      const steps = whole.disk.steps.slice(begin);
      expect(new Set(steps)).toEqual(
        new Set(['create', 'write', 'fdatasync', 'rename', 'syncFolder', 'truncate', 'unlink']),
      );
      for (const [number, kind] of steps.entries()) {
        const { disk, wal, stored } = await written(few);
        disk.faults = [{ step: disk.steps.length + number, mode }];
        await compact(wal, 1);
        const words = `step ${number} ${kind}`;
        // Everything can be read on, and appends go on unless the machine is gone.
        expect(readable(wal, stored), words).toEqual(stored.map(numberOf));
        if (mode !== 'killed') await wal.append(frameOf(500));
        for (const next of [crash, 'nothing unsynced'] as const) {
          disk.crash(next);
          const again = await openWal(disk, { cacheBytesMax: 0, segmentAgeMs: -1 });
          expect(digest(await replayed(again.wal)), `${words}, ${next}`).toEqual(digest(stored));
          expect(readable(again.wal, stored), words).toEqual(stored.map(numberOf));
          expect(again.reports.filter(({ bytesCut }) => bytesCut > 0)).toEqual([]);
          expect(disk.paths().filter((path) => path.includes('0000000001'))).toHaveLength(1);
          await again.wal.close();
        }
        // And it can be compacted now, if it is not yet.
        disk.crash('nothing unsynced');
        const last = await openWal(disk, { cacheBytesMax: 0 });
        if (last.wal.startCompaction(1)) while (last.wal.isCompacting) await new Promise(setImmediate);
        expect(readable(last.wal, stored), words).toEqual(stored.map(numberOf));
        expect(disk.paths()).toContain(nameOf(1, '.walz'));
        await last.wal.close();
      }
    },
  );

  it('a raw file that is still there goes only when the name of the compressed one is on the medium', async () => {
    const { disk, wal } = await written(few);
    const raw = disk.bytesOf(nameOf(1, '.wal'));
    await compact(wal, 1);
    await wal.close();
    disk.plant(nameOf(1, '.wal'), raw);
    const begin = disk.steps.length;
    const again = await openWal(disk);
    const steps = disk.steps.slice(begin);
    expect(steps.slice(steps.indexOf('unlink') - 1)).toEqual(['syncFolder', 'unlink', 'fdatasync', 'syncFolder']);
    expect(disk.paths()).not.toContain(nameOf(1, '.wal'));
    await again.wal.close();
    // The first one is that of the parent.
    expect(steps.filter((step) => step === 'syncFolder')).toHaveLength(3);
  });

  it('tries again after a failure in the same run', async () => {
    const { disk, wal, stored, reports } = await written(few);
    const begin = disk.steps.length;
    for (let step = 0; step < 9; step += 1) {
      disk.faults = [{ step: disk.steps.length + step, mode: 'fails' }];
      if (!wal.startCompaction(1)) break;
      while (wal.isCompacting) await new Promise(setImmediate);
      expect(readable(wal, stored)).toEqual(stored.map(numberOf));
    }
    expect(disk.steps.length).toBeGreaterThan(begin);
    expect(reports.every(({ bytesCut }) => bytesCut === 0)).toBe(true);
    disk.faults = [];
    if (wal.startCompaction(1)) while (wal.isCompacting) await new Promise(setImmediate);
    expect(disk.paths()).toContain(nameOf(1, '.walz'));
    expect(readable(wal, stored)).toEqual(stored.map(numberOf));
  });
});
