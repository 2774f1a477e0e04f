import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf, numberOf, replayed } from './helpers.ts';

/** Blocks of many frames, of one, and of one that is larger than a block. */
const SIZES = [...Array.from({ length: 60 }, () => 30_000), 1_600_000, 3, 1_000_000, 360_000];

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-compaction-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** A log on the machine's own disk whose first segment holds the frames and can be compacted. */
async function written() {
  const reports: string[] = [];
  const open = () =>
    Wal.open({ folder, cacheBytesMax: 0, segmentAgeMs: -1, report: ({ reason }) => reports.push(reason) });
  const wal = await open();
  const positions = await Promise.all(SIZES.map((size, number) => wal.append(frameOf(number, size))));
  await wal.sealAged();
  await wal.append(frameOf(SIZES.length));
  return { wal, open, reports, positions };
}

async function compact(wal: Wal): Promise<void> {
  expect(wal.startCompaction(1)).toBe(true);
  while (wal.isCompacting) await new Promise(setImmediate);
}

it('compacts on a thread: every frame is read where it was, also by who had the raw file open', async () => {
  const { wal, open, reports, positions } = await written();
  const numbers = () => positions.map((position) => numberOf(wal.read(position)));
  const before = numbers();
  await compact(wal);
  expect(await readdir(folder)).toEqual(['0000000001.walz', '0000000002.wal']);
  expect(numbers()).toEqual(before);
  await wal.close();
  const again = await open();
  const found = await replayed(again);
  expect(found.map((frame) => [numberOf(frame), frame.payload.length])).toEqual([
    ...SIZES.map((size, number) => [number, frameOf(number, size).payload.length]),
    [SIZES.length, frameOf(SIZES.length).payload.length],
  ]);
  expect(reports).toEqual([]);
  await again.close();
});

it('says what a damaged segment is not compacted for, and goes on with the next', async () => {
  const { wal, reports, positions } = await written();
  const path = join(folder, '0000000001.wal');
  const bytes = await readFile(path);
  const at = (positions[50]?.offset ?? 0) + 100;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
  await compact(wal);
  expect(await readdir(folder)).toEqual(['0000000001.wal', '0000000002.wal']);
  expect(reports).toEqual(['the checksum of an entry does not match: it is not compacted']);
  await wal.sealAged();
  expect(wal.startCompaction(2)).toBe(true);
  await wal.close();
});
