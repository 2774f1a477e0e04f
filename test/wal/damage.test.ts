import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Counters } from '../../src/core/metrics.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { FOLDER, frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

type Damage = (bytes: Buffer) => Buffer;

const cutAt =
  (at: number): Damage =>
  (bytes) =>
    bytes.subarray(0, at);

const flipAt =
  (at: number, mask: number): Damage =>
  (bytes) => {
    bytes.writeUInt8(bytes.readUInt8(at) ^ mask, at);
    return bytes;
  };

/** Appends frames of these sizes, closes, and gives the disk with everything that was stored. */
async function written(sizes: readonly number[], segmentBytes: number) {
  const disk = new MemoryDisk();
  const { wal } = await openWal(disk, { segmentBytes });
  const stored: StoredFrame[] = [];
  wal.onDurable((frame) => stored.push(frame));
  for (const [number, size] of sizes.entries()) await wal.append(frameOf(number, size));
  await wal.close();
  return { disk, stored };
}

/** Damages one segment and checks what a start makes of it. */
async function checkDamage(
  disk: MemoryDisk,
  stored: readonly StoredFrame[],
  segment: number,
  at: number,
  damage: Damage,
) {
  const path = `${FOLDER}/${String(segment).padStart(10, '0')}.wal`;
  const before = disk.bytesOf(path);
  disk.plant(path, damage(disk.bytesOf(path)));
  const { wal, reports } = await openWal(disk);
  const found = await replayed(wal);
  const there = stored.filter(({ position }) => position.segment === segment);
  const inSegment = found.filter(({ position }) => position.segment === segment);
  const safe = there.filter(({ position, length }) => position.offset + length <= at);
  // A prefix, with everything before the damage; the other segments are whole.
  expect(inSegment).toEqual(there.slice(0, inSegment.length));
  expect(inSegment.length).toBeGreaterThanOrEqual(safe.length);
  const others = stored.filter(({ position }) => position.segment !== segment);
  expect(found.filter(({ position }) => position.segment !== segment)).toEqual(others);
  // Nothing is lost in silence, unless the file ends where a frame does.
  const clean = [32, ...there.map(({ position, length }) => position.offset + length)];
  if (!(disk.bytesOf(path).length === at && clean.includes(at))) expect(reports).not.toEqual([]);
  // What goes on from here is whole again.
  await wal.append(frameOf(999));
  await wal.close();
  const after = await openWal(disk);
  expect((await replayed(after.wal)).map(numberOf)).toEqual([...found.map(numberOf), 999]);
  await after.wal.close();
  return before;
}

describe('damage', () => {
  it.each([
    ['the only segment', [30, 0, 70], 4096, 1],
    ['a segment in the middle', [60, 60, 60, 60, 60, 60], 420, 2],
  ])('at every byte of %s costs only what lies behind it', async (_, sizes, segmentBytes, segment) => {
    const { disk, stored } = await written(sizes, segmentBytes);
    const path = `${FOLDER}/000000000${segment}.wal`;
    const whole = disk.bytesOf(path);
    const names = disk.paths();
    const run = async (at: number, damage: Damage) => {
      await checkDamage(disk, stored, segment, at, damage);
      for (const extra of disk.paths().filter((name) => !names.includes(name))) await disk.unlink(extra);
      disk.plant(path, Buffer.from(whole));
    };
    for (let at = 0; at < whole.length; at += 1) {
      await run(at, cutAt(at));
      await run(at, flipAt(at, 1 << (at % 8)));
    }
  });

  it('of any kind, anywhere, in logs of any shape', async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 12 });
    const where = fc.record({
      segment: fc.nat(),
      at: fc.nat(),
      mask: fc.integer({ min: 1, max: 255 }),
      cut: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 100, max: 1000 }), where, async (some, segmentBytes, damage) => {
        const { disk, stored } = await written(some, segmentBytes);
        const segments = [...new Set(stored.map(({ position }) => position.segment))];
        const segment = segments[damage.segment % segments.length] ?? 1;
        const at = damage.at % disk.bytesOf(`${FOLDER}/${String(segment).padStart(10, '0')}.wal`).length;
        await checkDamage(disk, stored, segment, at, damage.cut ? cutAt(at) : flipAt(at, damage.mask));
      }),
      { numRuns: 200 },
    );
  });

  it('is told with the segment and the bytes', async () => {
    const { disk } = await written([60, 60, 60], 4096);
    const path = `${FOLDER}/0000000001.wal`;
    const size = disk.bytesOf(path).length;
    disk.plant(path, disk.bytesOf(path).subarray(0, size - 5));
    const { reports } = await openWal(disk);
    const frameBytes = (size - 32) / 3;
    const reason = 'the file ends inside an entry: cut off';
    const from = '2026-09-21T14:13:20.000000001Z';
    expect(reports).toEqual([
      { segment: 1, file: path, offset: size - frameBytes, bytesCut: frameBytes - 5, from, reason },
    ]);
    expect((await openWal(disk)).reports).toEqual([]);
  });
});

describe('a newer format', () => {
  it.each([
    ['header', 8, 0, 28, 28],
    ['entry', 32 + 8, 32 + 8, undefined, 32 + 4],
  ])('version in the %s is refused with words', async (_, versionAt, crcFrom, crcTo, crcAt) => {
    const { disk } = await written([60], 4096);
    const path = `${FOLDER}/0000000001.wal`;
    const bytes = disk.bytesOf(path);
    bytes.writeUInt8(2, versionAt);
    bytes.writeUInt32LE(crc32(bytes.subarray(crcFrom, crcTo ?? bytes.length)), crcAt);
    disk.plant(path, bytes);
    await expect(openWal(disk)).rejects.toMatchObject({
      code: 'storage',
      message: /format version 2.*newer Spantrail/,
    });
    expect(disk.bytesOf(path)).toEqual(bytes);
  });
});

describe('damage over the border of two entries', () => {
  it('keeps what is cut off when whole entries follow, and says how to see it', async () => {
    const { disk } = await written([100, 100, 100, 100], 1024 * 1024);
    const [path = ''] = disk.paths().filter((name) => name.endsWith('.wal'));
    const bytes = disk.bytesOf(path);
    // From the middle of the second entry into the middle of the third.
    const length = (bytes.length - 32) / 4;
    const start = Math.floor(32 + 1.5 * length);
    bytes.fill(0xff, start, start + length);
    disk.plant(path, bytes);
    const counters = new Counters();
    const { wal, reports } = await openWal(disk, { counters });
    expect(reports.map(({ reason }) => reason).join()).toMatch(/with whole entries behind it; kept as .*\.damaged/);
    expect(await replayed(wal)).toHaveLength(1);
    expect(counters.total('wal_damaged_files')).toBe(1);
    await wal.close();
  });

  it('keeps nothing of a tail that a crash has torn', async () => {
    const { disk } = await written([100, 100, 100], 1024 * 1024);
    const [path = ''] = disk.paths().filter((name) => name.endsWith('.wal'));
    disk.plant(path, disk.bytesOf(path).subarray(0, -50));
    const { wal } = await openWal(disk);
    expect(await replayed(wal)).toHaveLength(2);
    expect(disk.paths().filter((name) => name.endsWith('.damaged'))).toEqual([]);
    await wal.close();
  });
});
