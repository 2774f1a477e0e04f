import { crc32, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { inspectLog } from '../../src/wal/inspect.ts';
import { type PieceEncoder, StreamedPieces, WholePieces } from '../../src/wal/piece-encoder.ts';
import {
  BLOCK_RAW_BYTES,
  encodePieceHead,
  PIECE_HEAD_BYTES,
  parsePieceHead,
  readBlockIndex,
} from '../../src/wal/segment-blocks.ts';
import { encodeHeader, HEADER_BYTES, sealEntry, WAL_KIND } from '../../src/wal/segment-format.ts';
import { type FrameReader, openFrameReader, type Wal, type WalOptions } from '../../src/wal/wal.ts';
import { FOLDER, frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

const nameOf = (segment: number, suffix = '.walz') => `${FOLDER}/${String(segment).padStart(10, '0')}${suffix}`;

const streamed = (): PieceEncoder => new StreamedPieces();
const whole = (): PieceEncoder => new WholePieces();

function compressed(encoder: () => PieceEncoder, options: Partial<WalOptions> = {}): Partial<WalOptions> {
  const sizes = { segmentBytes: 64 * 1024 * 1024, cacheBytesMax: 0, segmentAgeMs: -1 };
  return { ...sizes, isCompressed: true, encoder: encoder(), ...options };
}

/** A log with these batches of frames in its first segment and one more frame in the second. */
async function written(batches: readonly (readonly number[])[], encoder = streamed, disk = new MemoryDisk()) {
  const { wal, reports } = await openWal(disk, compressed(encoder, { segmentAgeMs: 1e9 }));
  const stored: StoredFrame[] = [];
  wal.onDurable((frame) => stored.push(frame));
  let number = 0;
  for (const batch of batches) await Promise.all(batch.map((size) => wal.append(frameOf(number++, size))));
  await wal.close();
  const next = await openWal(disk, compressed(encoder));
  next.wal.onDurable((frame) => stored.push(frame));
  await next.wal.append(frameOf(number));
  return { disk, wal: next.wal, reports: [...reports, ...next.reports], stored, inFirst: stored.slice(0, -1) };
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

/** Several blocks: of many pieces, of pieces of many frames, and of one that is larger than a block. */
const BATCHES = [
  ...Array.from({ length: 10 }, () => [40_000, 40_000, 3]),
  [1_600_000],
  [3],
  [600_000, 360_000],
  [280_000],
];
const SIZES = BATCHES.flat();

describe.each([
  ['streamed', streamed],
  ['each piece whole', whole],
])('a compressed segment, %s', (_, encoder) => {
  it('gives back every frame at its position, to everybody, before and after a restart', async () => {
    const size = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 300_000 }));
    const batch = fc.array(size, { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 12 }), async (some) => {
        const { disk, wal, stored, reports } = await written(some, encoder);
        expect(disk.paths()).toEqual([nameOf(1), nameOf(2)]);
        const end = wal.segments()[0]?.lastReceivedNs;
        for (const reader of [openFrameReader(FOLDER, disk), wal]) {
          expect(readable(reader, stored)).toEqual(stored.map(numberOf));
          expect(() => reader.read({ segment: 1, offset: 2 ** 31 })).toThrow(/there is no entry/);
        }
        expect(wal.bytes).toBe(disk.bytesOf(nameOf(1)).length + disk.bytesOf(nameOf(2)).length);
        await wal.close();
        expect(wal.bytes).toBe(disk.bytesOf(nameOf(1)).length + disk.bytesOf(nameOf(2)).length);
        const again = await openWal(disk);
        expect(again.wal.segments()[0]?.lastReceivedNs).toBe(end);
        expect(digest(await replayed(again.wal))).toEqual(digest(stored));
        expect([...reports, ...again.reports]).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it('is read while it is written, by whoever has it open', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk, compressed(encoder, { segmentAgeMs: 1e9 }));
    const stored: StoredFrame[] = [];
    wal.onDurable((frame) => stored.push(frame));
    const reader = openFrameReader(FOLDER, disk);
    for (let number = 0; number < 60; number += 1) {
      await wal.append(frameOf(number, number % 3 === 0 ? 50 : 60_000));
      const newest = stored.slice(-1);
      expect(readable(reader, newest)).toEqual([number]);
      if (number % 7 === 0) expect(readable(wal, stored)).toEqual(stored.map(numberOf));
    }
    const log = await inspectLog({ folder: FOLDER, kind: WAL_KIND, disk }, { isInUse: true });
    expect(log.segments).toMatchObject([{ form: 'compressed', isActive: true, entries: stored.length, damage: [] }]);
    await wal.close();
    expect(readable(reader, stored)).toEqual(stored.map(numberOf));
  });

  it('is read after a crash without its index, and gets one', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk, compressed(encoder, { segmentAgeMs: 1e9 }));
    const stored: StoredFrame[] = [];
    wal.onDurable((frame) => stored.push(frame));
    for (const [number, size] of SIZES.entries()) await wal.append(frameOf(number, size));
    const before = disk.bytesOf(nameOf(1)).length;
    disk.crash('nothing unsynced');
    const again = await openWal(disk);
    expect(again.reports).toEqual([]);
    expect(disk.bytesOf(nameOf(1)).length).toBeGreaterThan(before);
    expect(digest(await replayed(again.wal))).toEqual(digest(stored));
    const bytes = disk.bytesOf(nameOf(1));
    await again.wal.close();
    await (await openWal(disk)).wal.close();
    expect(disk.bytesOf(nameOf(1)).equals(bytes)).toBe(true);
  });

  it('is much smaller, and is dropped like any other', async () => {
    const { disk, wal } = await written(BATCHES, encoder);
    expect(disk.bytesOf(nameOf(1)).length).toBeLessThan(SIZES.reduce((sum, size) => sum + size, 0) / 10);
    await wal.drop(1);
    expect(disk.paths()).toEqual([nameOf(2)]);
  });
});

it('what comes after a segment of the other kind is read with it', async () => {
  const disk = new MemoryDisk();
  const stored: StoredFrame[] = [];
  for (const [number, options] of [{}, compressed(streamed), {}, compressed(whole)].entries()) {
    const { wal, reports } = await openWal(disk, options);
    wal.onDurable((frame) => stored.push(frame));
    await wal.append(frameOf(number, 3_000));
    expect(readable(wal, stored)).toEqual(stored.map(numberOf));
    await wal.close();
    expect(reports).toEqual([]);
  }
  expect(disk.paths().map((path) => path.slice(FOLDER.length + 10))).toEqual(['1.wal', '2.walz', '3.wal', '4.walz']);
  expect((await replayed((await openWal(disk)).wal)).map(numberOf)).toEqual([0, 1, 2, 3]);
});

describe('format version 1', () => {
  /** Blocks of one zstd frame each, whose heads the index repeats with where they start. */
  function old(frames: readonly (readonly Buffer[])[]): Buffer {
    const parts = [encodeHeader({ ...WAL_KIND, magic: 'SPANTWLZ', version: 1 }, 1, 1n)];
    const index: Buffer[] = [];
    let [at, rawOffset] = [HEADER_BYTES, HEADER_BYTES];
    for (const entries of frames) {
      const raw = Buffer.concat(entries);
      const bytes = zstdCompressSync(raw);
      const head = encodePieceHead({
        compressedBytes: bytes.length,
        rawBytes: raw.length,
        rawOffset,
        entries: entries.length,
        goesOn: false,
        firstNs: 5n,
        lastNs: 5n,
        checksum: crc32(bytes),
      });
      const where = Buffer.alloc(4);
      where.writeUInt32LE(at);
      parts.push(head, bytes);
      index.push(head, where);
      at += head.length + bytes.length;
      rawOffset += raw.length;
    }
    const tail = Buffer.alloc(24);
    tail.writeUInt32LE(frames.length, 0);
    tail.writeUInt32LE(at, 4);
    tail.writeUInt32LE(rawOffset, 8);
    tail.writeUInt32LE(crc32(Buffer.concat(index)), 12);
    tail.writeUInt32LE(crc32(tail.subarray(0, 16)), 16);
    tail.write('SWLZ', 20);
    return Buffer.concat([...parts, ...index, tail]);
  }

  it('is read, and what an interrupted compaction left is tidied up', async () => {
    const { disk: raw, wal, inFirst } = await written([[300, 400], [500]], whole);
    await wal.close();
    const numbers = inFirst.map(numberOf);
    const entryOf = (number: number) => {
      const frame = inFirst[number];
      const at = frame?.position;
      const note = JSON.stringify({ namespace: 'default', sender: 'grpc', trusted: true, vouches: false });
      const entry = Buffer.concat([Buffer.alloc(18), Buffer.of(note.length, 0), Buffer.from(note)]);
      expect(at).toBeDefined();
      sealEntry(entry, 1, frame?.note.receivedNs ?? 0n, frame?.payload);
      return Buffer.concat([entry, frame?.payload ?? Buffer.alloc(0)]);
    };
    const bytes = old([[entryOf(0), entryOf(1)], [entryOf(2)]]);
    for (const isBoth of [false, true]) {
      const disk = new MemoryDisk();
      disk.plant(nameOf(1), bytes);
      disk.plant(`${nameOf(1)}.tmp`, Buffer.alloc(3));
      if (isBoth) disk.plant(nameOf(1, '.wal'), Buffer.alloc(0));
      disk.plant(nameOf(2), raw.bytesOf(nameOf(2)));
      const { wal: again, reports } = await openWal(disk, { cacheBytesMax: 0 });
      const found = await replayed(again);
      expect(found.map(numberOf)).toEqual([...numbers, 3]);
      expect(readable(again, found)).toEqual([...numbers, 3]);
      expect(reports).toEqual([]);
      expect(disk.paths()).toEqual([nameOf(1), nameOf(2)]);
    }
  });
});

describe('damage in a compressed segment', async () => {
  const unharmed = await written(BATCHES);
  const path = nameOf(1);
  await unharmed.wal.close();
  const bytes = unharmed.disk.bytesOf(path);

  /** Damages the file and starts again: which frames are there, by replay and by position, and what was said. */
  async function afterDamage(damaged: Buffer, isNewest = false) {
    const disk = new MemoryDisk();
    if (!isNewest) disk.plant(nameOf(2), unharmed.disk.bytesOf(nameOf(2)));
    disk.plant(path, damaged);
    const { wal, reports } = await openWal(disk, { cacheBytesMax: 0 });
    const found = (await replayed(wal)).map(numberOf);
    expect(readable(wal, unharmed.stored)).toEqual(found);
    await wal.close();
    return { found, reports, disk };
  }

  it('costs its own block from there on and names it', async () => {
    const all = unharmed.stored.map(numberOf);
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const damaged = Buffer.from(bytes);
        damaged.writeUInt8(damaged.readUInt8(at) ^ mask, at);
        const { found, reports } = await afterDamage(damaged);
        const lost = all.filter((number) => !found.includes(number));
        // Frames that lie in one block, one after the other.
        expect(lost.every((number, index) => index === 0 || number === (lost[index - 1] ?? 0) + 1)).toBe(true);
        expect(lost.reduce((sum, number) => sum + (SIZES[number] ?? 0), 0)).toBeLessThanOrEqual(2_640_000);
        expect(reports.length).toBeGreaterThan(0);
        const [report] = reports;
        expect(report).toMatchObject({ segment: 1, file: path });
        if (lost.length > 0) {
          expect(report?.offset).toBeLessThanOrEqual(at);
          expect((report?.offset ?? 0) + (report?.bytesCut ?? 0)).toBeGreaterThan(at);
          expect([report?.from, report?.to]).toEqual([expect.any(String), expect.any(String)]);
        }
      }),
      { numRuns: 80 },
    );
  });

  const cuts = [0, 1, 31, 32, 33, 71, 72, 500, ...Array.from({ length: 25 }, (_, i) => bytes.length - 1 - i * 90)];

  it.each([false, true])(
    'by a cut costs what lies behind it; where the segment is the newest: %s',
    async (isNewest) => {
      for (const at of cuts) {
        const { found, reports, disk } = await afterDamage(bytes.subarray(0, at), isNewest);
        const inFirst = isNewest ? found : found.slice(0, -1);
        expect(inFirst).toEqual([...inFirst.keys()]);
        if (!isNewest) expect(found.at(-1)).toBe(SIZES.length);
        // Right after the header there may have been nothing else.
        if (at !== HEADER_BYTES) expect(reports, `cut at ${at}`).not.toEqual([]);
        expect(disk.paths().filter((name) => name.endsWith('.damaged'))).toEqual([]);
        if (isNewest && at > 0) expect((await openWal(disk)).reports).toEqual([]);
      }
    },
  );

  it('of the newest without an index is kept beside it where whole pieces follow', async () => {
    const pieces: number[] = [];
    for (let at = HEADER_BYTES; ; ) {
      const piece = parsePieceHead(bytes, at);
      if (!piece) break;
      pieces.push(at);
      at += PIECE_HEAD_BYTES + piece.compressedBytes;
    }
    expect(pieces).toHaveLength(BATCHES.length);
    const end = bytes.length - 36 * 4 - 24;
    const damaged = Buffer.from(bytes.subarray(0, end));
    damaged.fill(0xff, pieces[3], (pieces[3] ?? 0) + 10);
    const { found, reports, disk } = await afterDamage(damaged, true);
    expect(found).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(reports).toEqual([
      expect.objectContaining({ reason: expect.stringMatching(/with whole entries behind it/) }),
    ]);
    const kept = disk.bytesOf(`${path}.${pieces[3]}.damaged`);
    expect(kept.equals(damaged.subarray(pieces[3]))).toBe(true);
    const { wal } = await openWal(disk);
    expect((await replayed(wal)).map(numberOf)).toEqual(found);
  });
});

it('a newer format is refused with words', async () => {
  const { disk, wal } = await written([[60]]);
  await wal.close();
  const bytes = disk.bytesOf(nameOf(1));
  bytes.writeUInt8(3, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  disk.plant(nameOf(1), bytes);
  await expect(openWal(disk)).rejects.toMatchObject({ code: 'storage', message: /format version 3.*newer Spantrail/ });
});

it('a disk that is full when the index is written holds up what follows, and nothing is lost', async () => {
  const disk = new MemoryDisk();
  const { wal, reports } = await openWal(disk, compressed(streamed, { segmentAgeMs: 1e9 }));
  await wal.append(frameOf(0, 30_000));
  const roll = async (log: Wal) => log.append(frameOf(1, 70 * 1024 * 1024));
  disk.capacityBytes = disk.bytesOf(nameOf(1)).length + 10;
  await expect(roll(wal)).rejects.toMatchObject({ code: 'unavailable' });
  expect(reports.map(({ reason }) => reason).join()).toMatch(/cannot be closed yet/);
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  await roll(wal);
  expect(numberOf(wal.read({ segment: 1, offset: HEADER_BYTES }))).toBe(0);
  await wal.close();
  const again = await openWal(disk);
  expect((await replayed(again.wal)).map(numberOf)).toEqual([0, 1]);
  expect(again.reports).toEqual([]);
});

it('what a start shows is durable, also where the disk is too full for the index', async () => {
  const disk = new MemoryDisk();
  const { wal } = await openWal(disk, compressed(streamed, { segmentAgeMs: 1e9 }));
  await wal.append(frameOf(0));
  // The next one is written, and the machine is gone before its fsync.
  disk.faults = [{ step: disk.steps.length + 1, mode: 'killed' }];
  await expect(wal.append(frameOf(1))).rejects.toMatchObject({ code: 'unavailable' });
  disk.crash('all of it');
  disk.capacityBytes = disk.bytesOf(nameOf(1)).length + 10;
  const full = await openWal(disk);
  expect((await replayed(full.wal)).map(numberOf)).toEqual([0, 1]);
  expect(full.reports).toMatchObject([{ reason: expect.stringMatching(/it cannot be repaired: ENOSPC/) }]);
  disk.crash('nothing unsynced');
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  const again = await openWal(disk);
  expect((await replayed(again.wal)).map(numberOf)).toEqual([0, 1]);
  expect(again.reports).toEqual([]);
});

it.each(['fails', 'fails but persisted'] as const)('an fsync that %s leaves nothing in the index', async (mode) => {
  const disk = new MemoryDisk();
  const { wal } = await openWal(disk, compressed(streamed, { segmentAgeMs: 1e9 }));
  await wal.append(frameOf(0));
  disk.faults = [{ step: disk.steps.length + 1, mode }];
  await expect(wal.append(frameOf(1, 3 * BLOCK_RAW_BYTES))).rejects.toMatchObject({ code: 'unavailable' });
  await wal.append(frameOf(2));
  await wal.close();
  const { segments } = await inspectLog({ folder: FOLDER, kind: WAL_KIND, disk }, { isInUse: false });
  expect(segments.map(({ entries, damage }) => [entries, damage])).toEqual([
    [1, []],
    [1, []],
  ]);
  const again = await openWal(disk);
  expect((await replayed(again.wal)).map(numberOf)).toEqual([0, 2]);
  expect(again.reports).toEqual([]);
});

it.each([
  ['streamed', streamed],
  ['each piece whole', whole],
])('what comes at once lies in several blocks, %s', async (_, encoder) => {
  const sizes = Array.from({ length: 40 }, (__, index) => (index === 7 ? 3 * BLOCK_RAW_BYTES : 200_000));
  const disk = new MemoryDisk();
  const { stored } = await written([[3], sizes], encoder, disk);
  const { blocks } = readBlockIndex(disk.openSync(nameOf(1)));
  const large = blocks.filter(({ rawBytes }) => rawBytes > 2 * BLOCK_RAW_BYTES);
  expect(large.map(({ entries }) => entries)).toEqual([1]);
  expect(blocks.length).toBeLessThan(16);
  expect(readable(openFrameReader(FOLDER, disk), stored)).toEqual(stored.map(numberOf));
});
