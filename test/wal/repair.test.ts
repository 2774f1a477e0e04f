import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { inspectLog, isDamaged } from '../../src/wal/inspect.ts';
import { StreamedPieces } from '../../src/wal/piece-encoder.ts';
import { repairLog } from '../../src/wal/repair.ts';
import { encodeHeader, JOURNAL_KIND, WAL_KIND } from '../../src/wal/segment-format.ts';
import type { Wal } from '../../src/wal/wal.ts';
import { FOLDER, frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

const place = (disk: MemoryDisk) => ({ folder: FOLDER, kind: WAL_KIND, disk });
const inspect = (disk: MemoryDisk, isInUse = false) => inspectLog(place(disk), { isInUse });
const RAW = `${FOLDER}/0000000002.wal`;
const COMPRESSED = `${FOLDER}/0000000001.walz`;
const NEWEST = `${FOLDER}/0000000003.wal`;

/** One compressed segment of several blocks, one raw, and the newest. */
async function written(disk = new MemoryDisk()) {
  const stored: StoredFrame[] = [];
  const append = async (wal: Wal, from: number, to: number) => {
    wal.onDurable((frame) => stored.push(frame));
    for (let number = from; number < to; number += 1) await wal.append(frameOf(number, 360_000));
  };
  const encoder = new StreamedPieces();
  const { wal: first } = await openWal(disk, { segmentBytes: 3_600_000, isCompressed: true, encoder });
  await append(first, 0, 9);
  await first.close();
  const { wal } = await openWal(disk, { segmentBytes: 3_600_000 });
  await append(wal, 9, 24);
  return { disk, wal, stored };
}

/** Which frames a start gives, in words. */
async function found(disk: MemoryDisk): Promise<{ numbers: number[]; reports: unknown[]; wal: Wal }> {
  const { wal, reports } = await openWal(disk);
  return { numbers: (await replayed(wal)).map(numberOf), reports, wal };
}

function flip(disk: MemoryDisk, path: string, at: number): void {
  const bytes = disk.bytesOf(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
  disk.plant(path, bytes);
}

function copyOf(disk: MemoryDisk): MemoryDisk {
  const copy = new MemoryDisk();
  for (const path of disk.paths()) copy.plant(path, disk.bytesOf(path));
  return copy;
}

describe('inspect', async () => {
  const { disk, stored } = await written();

  it('tells what every segment holds, and changes nothing', async () => {
    const steps = disk.steps.length;
    const log = await inspect(disk, true);
    expect(isDamaged(log)).toBe(false);
    expect(log.segments.map(({ segment, form, isActive, entries }) => [segment, form, isActive, entries])).toEqual([
      [1, 'compressed', false, 9],
      [2, 'raw', false, 9],
      [3, 'raw', true, 6],
    ]);
    for (const { segment, file, bytes, firstNs, lastNs, rawBytes } of log.segments) {
      const there = stored.filter(({ position }) => position.segment === segment);
      expect([firstNs, lastNs]).toEqual([there[0]?.note.receivedNs, there.at(-1)?.note.receivedNs]);
      expect(bytes).toBe(disk.bytesOf(file).length);
      expect(rawBytes).toBe(there.reduce((sum, { length }) => sum + length, 32));
    }
    expect(disk.steps.length).toBe(steps);
  });

  it('names damage with the file, the place, the bytes and the time', async () => {
    const damaged = copyOf(disk);
    flip(damaged, COMPRESSED, 92);
    flip(damaged, RAW, 800_000);
    damaged.plant(`${FOLDER}/0000000009.wal`, damaged.bytesOf(NEWEST).subarray(0, 100));
    damaged.plant(`${FOLDER}/0000000001.walz.tmp`, Buffer.alloc(3));
    damaged.plant(`${FOLDER}/mine.txt`, Buffer.alloc(3));
    damaged.plant(`${FOLDER}/0000000001.wal.7.damaged`, Buffer.alloc(3));
    const log = await inspect(damaged);
    const timeOf = (number: number) => frameOf(number).note.receivedNs;
    expect(log.segments.map(({ damage }) => damage)).toEqual([
      [
        {
          offset: expect.any(Number),
          bytes: expect.any(Number),
          reason: expect.stringContaining('checksum of a piece does not match (3 entries)'),
          firstNs: expect.any(BigInt),
          lastNs: expect.any(BigInt),
        },
      ],
      [
        {
          offset: stored[11]?.position.offset,
          bytes: 7 * (stored[11]?.length ?? 0),
          reason: 'the checksum of an entry does not match',
          firstNs: timeOf(10),
          lastNs: timeOf(18),
        },
      ],
      [],
      [
        { offset: 0, bytes: 32, reason: 'the header names another segment' },
        { offset: 32, bytes: 68, reason: 'the file ends inside an entry' },
      ],
    ]);
    expect(log).toMatchObject({
      missing: [{ from: 4, to: 8 }],
      unfinished: ['0000000001.walz.tmp'],
      kept: ['0000000001.wal.7.damaged'],
      strange: ['mine.txt'],
    });
    expect(isDamaged(log)).toBe(true);
  });

  it('goes on where a segment is dropped or written meanwhile', async () => {
    const { disk: busy, wal } = await written();
    const open = busy.openToRead.bind(busy);
    let opened = 0;
    busy.openToRead = async (path) => {
      opened += 1;
      // Right after the names were read: the first goes, and the newest is half written.
      if (opened === 1) {
        await wal.drop(1);
        const whole = busy.bytesOf(NEWEST);
        busy.plant(NEWEST, Buffer.concat([whole, whole.subarray(32, 1000)]));
        setTimeout(() => busy.plant(NEWEST, whole), 20);
      }
      return open(path);
    };
    const log = await inspect(busy, true);
    expect(log.segments.map(({ segment, form, damage }) => [segment, form, damage])).toEqual([
      [2, 'raw', []],
      [3, 'raw', []],
    ]);
  });

  it('looks again at a compressed segment whose newest piece is half written', async () => {
    const busy = new MemoryDisk();
    const { wal } = await openWal(busy, { segmentBytes: 3_600_000, isCompressed: true });
    for (let number = 0; number < 3; number += 1) await wal.append(frameOf(number, 300));
    const whole = busy.bytesOf(COMPRESSED);
    busy.plant(COMPRESSED, whole.subarray(0, -5));
    setTimeout(() => busy.plant(COMPRESSED, whole), 20);
    const log = await inspect(busy, true);
    expect(log.segments).toMatchObject([{ form: 'compressed', isActive: true, entries: 3, damage: [] }]);
  });
});

describe('repair', () => {
  it('does nothing where nothing is damaged', async () => {
    const { disk } = await written();
    const before = disk.paths();
    expect(await repairLog(place(disk))).toEqual([]);
    expect(disk.paths()).toEqual(before);
  });

  it('of any damage leaves a log that is whole, has every frame that could be read, and keeps the rest', async () => {
    const { disk: whole } = await written();
    const damage = fc.record({
      path: fc.constantFrom(COMPRESSED, RAW, NEWEST),
      at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
      isNearStart: fc.boolean(),
      isCut: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 3 }), async (some) => {
        const disk = copyOf(whole);
        for (const { path, at, isNearStart, isCut } of some) {
          const bytes = disk.bytesOf(path);
          if (bytes.length === 0) continue;
          const place = Math.floor(at * (isNearStart ? Math.min(90, bytes.length) : bytes.length));
          if (isCut) disk.plant(path, bytes.subarray(0, place));
          else flip(disk, path, place);
        }
        const readable = (await found(copyOf(disk))).numbers;
        const wasDamaged = isDamaged(await inspect(disk));
        const steps = await repairLog(place(disk));
        expect(steps.length > 0).toBe(wasDamaged);
        for (const { kept } of steps) if (kept !== undefined) expect(disk.paths()).toContain(kept);
        const log = await inspect(disk);
        expect(log.segments.flatMap((segment) => segment.damage)).toEqual([]);
        expect(await repairLog(place(disk))).toEqual([]);
        disk.crash('nothing unsynced');
        const after = await found(disk);
        expect(after.numbers).toEqual(readable);
        expect(after.reports.filter((report) => !String(JSON.stringify(report)).includes('missing'))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it('keeps the very bytes that it takes out', async () => {
    const { disk, stored } = await written();
    flip(disk, RAW, 800_000);
    flip(disk, COMPRESSED, 92);
    const before = new Map([RAW, COMPRESSED].map((path) => [path, disk.bytesOf(path)]));
    for (const { file, offset, kept, lostBytes } of await repairLog(place(disk))) {
      expect(
        disk.bytesOf(kept ?? '').equals(before.get(file)?.subarray(offset, offset + lostBytes) ?? Buffer.of(1)),
      ).toBe(true);
    }
    const { numbers, reports, wal } = await found(disk);
    expect(reports).toEqual([]);
    // What was readable still is, by position, too; what was taken out says so.
    for (const frame of stored) {
      if (numbers.includes(numberOf(frame))) expect(numberOf(wal.read(frame.position))).toBe(numberOf(frame));
      else expect(() => wal.read(frame.position)).toThrow(/there is no entry/);
    }
    const [first] = (await inspect(disk)).segments;
    expect(first?.removedBytes).toBe(3 * (stored[0]?.length ?? 0));
  });

  it('sets a file of another kind aside', async () => {
    const { disk } = await written();
    disk.plant(RAW, Buffer.concat([encodeHeader(JOURNAL_KIND, 2, 1n), disk.bytesOf(RAW).subarray(32)]));
    expect((await found(copyOf(disk))).numbers).toHaveLength(15);
    expect(await repairLog(place(disk))).toMatchObject([{ file: RAW, kept: `${RAW}.damaged` }]);
    expect((await inspect(disk)).missing).toEqual([{ from: 2, to: 2 }]);
  });

  it('that is interrupted at any step loses nothing more', async () => {
    const { disk: whole } = await written();
    flip(whole, RAW, 200_000);
    flip(whole, COMPRESSED, 92);
    const readable = (await found(copyOf(whole))).numbers;
    const tried = copyOf(whole);
    await repairLog(place(tried));
    for (const step of tried.steps.keys()) {
      const disk = copyOf(whole);
      disk.faults = [{ step, mode: 'killed' }];
      await expect(repairLog(place(disk))).rejects.toThrow('EIO');
      for (const crash of ['nothing unsynced', 'all of it'] as const) {
        const copy = copyOf(disk);
        copy.crash(crash);
        expect((await found(copy)).numbers, `step ${step}`).toEqual(readable);
      }
      disk.crash('nothing unsynced');
      await repairLog(place(disk));
      expect((await found(disk)).numbers).toEqual(readable);
    }
  });
});

describe('an open', () => {
  it('keeps what it cuts off when that is more than a torn tail', async () => {
    const { disk, stored } = await written();
    const there = stored.filter(({ position }) => position.segment === 3);
    const at = there[2]?.position.offset ?? 0;
    const tail = disk.bytesOf(NEWEST).subarray(at);
    flip(disk, NEWEST, at + 500);
    const { numbers, reports } = await found(disk);
    expect(numbers).toHaveLength(20);
    const kept = `${NEWEST}.${at}.damaged`;
    expect(reports).toEqual([
      expect.objectContaining({ bytesCut: tail.length, reason: expect.stringContaining(kept) }),
    ]);
    expect(disk.bytesOf(kept).subarray(501).equals(tail.subarray(501))).toBe(true);
  });

  it('does not keep a torn tail', async () => {
    const { disk } = await written();
    disk.plant(NEWEST, disk.bytesOf(NEWEST).subarray(0, -5));
    expect((await found(disk)).reports).toHaveLength(1);
    expect(disk.paths().filter((path) => path.endsWith('.damaged'))).toEqual([]);
  });
});
